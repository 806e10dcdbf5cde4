# Who edits policy. Leave out what somebody shall not edit: "intentions only" is policy/service-intentions/ alone.
key_prefix "mesh/v1/leases/" {
  policy = "read"
}
key_prefix "mesh/v1/nodes/" {
  policy = "read"
}
key_prefix "mesh/v1/status/" {
  policy = "read"
}
key_prefix "mesh/v1/ca/roots/" {
  policy = "read"
}
key_prefix "mesh/v1/ca/replicas/" {
  policy = "read"
}
# `meshctl registry adopt`: to say that a wiped or restored store is to be believed. Leave it at read for those who only
# edit policy.
key "mesh/v1/store-id" {
  policy = "write"
}
key_prefix "mesh/v1/policy/" {
  policy = "write"
}
key_prefix "mesh/v1/config/" {
  policy = "write"
}
key_prefix "mesh/v1/history/" {
  policy = "write"
}
key_prefix "mesh/v1/revocations/" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
