# A host of the mesh: NODE is its name. With this alone it calls services; for each service that it serves it needs
# service.hcl too. Everything that it may write is its own.
# What every host reads. No rule for the rest of ca/: it is the authority's alone (and a deny would win over the
# authority's own policy on the host that has both).
key_prefix "mesh/v1/policy/" {
  policy = "read"
}
key_prefix "mesh/v1/config/" {
  policy = "read"
}
key_prefix "mesh/v1/leases/" {
  policy = "read"
}
key_prefix "mesh/v1/nodes/" {
  policy = "read"
}
key_prefix "mesh/v1/status/" {
  policy = "read"
}
key_prefix "mesh/v1/history/" {
  policy = "read"
}
key_prefix "mesh/v1/revocations/" {
  policy = "read"
}
key_prefix "mesh/v1/ca/roots/" {
  policy = "read"
}
key_prefix "mesh/v1/ca/replicas/" {
  policy = "read"
}
key "mesh/v1/store-id" {
  policy = "read"
}
key "mesh/v1/leases/NODE" {
  policy = "write"
}
key "mesh/v1/nodes/NODE" {
  policy = "write"
}
key "mesh/v1/status/proxies/NODE" {
  policy = "write"
}
# The lease is a session. It belongs to the node of the agent or server that made it, so with `Mode: agent` a rule
# session "NODE" is enough.
session_prefix "" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
node "NODE" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
# `Mode: agent`: to see that the agent is this node's.
agent "NODE" {
  policy = "read"
}
