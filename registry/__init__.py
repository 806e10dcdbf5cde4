"""WHO IS THERE: the registry of hosts, instances and documents.

errors    what a caller can act on
model     instances, nodes, checks and health as values
keys      the key layout of the store (`mesh/v1/...`)
store     the contract that every backend keeps
catalog   register, withdraw and watch services over any Store
fold      watch events in, the current picture of the mesh out (pure)
backends  sqlite (embedded) and consul (any server that speaks Consul's HTTP API)
api       the Consul-compatible HTTP API over a Store and a host's agent
ca        the authority: roots, join tokens, certificates, issuance log
"""
