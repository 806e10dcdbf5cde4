"""The authority: who may be what, and the files that prove it.

names        SPIFFE names, SNI, the DNS name of port 15444          (pure)
entitlement  what a node may ask for: an extension of its certificate   (pure)
certificate  how root, issuer and leaf are made                     (pure)
svid         reading leaves: an identity, or the reason why not     (pure)
csr token    requests (only the key counts); join and operator tokens   (pure)
bundle       roots from PEM; a further root only if a trusted one signed it   (pure)
revocation rotation   what is revoked; when to renew and to worry   (pure)
files        the private layout below DataDir
journal spent         the issuance log; tokens that were used
init         the first authority, without a store; renewal and recovery offline
gate issuance authority   the checks, the signing, and who gets what
routes tls client     port 15444: the four routes, TLS 1.3 with reload, a host's side of it

A joining host: `client.join` -> `files.save(layout.node, granted.credentials)`, `files.save_trust(...)`.
A joined one: `client.from_files(layout, addresses, now, tls.client_context(layout))`, then `client.sign_service`
and `client.renew_node`; after saving a new node certificate call `reload()` on the context.
An authority: `Authority(layout, node, Deps(store, instance_lookup, now))`, `routes(authority, now, addresses)` on an
application served with `tls.server_context(layout)`; its `run()` fills the store's log in.
"""
