"""The Consul-compatible HTTP API over a store, a catalogue and the host's agent.

app           the application of a listener, and how to serve it
access        who may do what: the table and a pure decision
context       dependencies, who calls, what no request may carry
registration  bodies of registrations, with fields and checks
local         this host's instances (`/v1/agent`)
discovery     all hosts' instances (`/v1/catalog`, `/v1/health`), in the shapes of views
kv, txn, sessions  the store
blocking      answers that wait for a change
agent         what the routes ask of the host
sockets       what the kernel knows of a caller
answers       JSON, headers, errors
"""
