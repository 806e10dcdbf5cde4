# The host with the role ca, beside host.hcl: issuance log, used tokens, roots, the store's id, accepted versions.
key_prefix "mesh/v1/ca/" {
  policy = "write"
}
key "mesh/v1/store-id" {
  policy = "write"
}
key_prefix "mesh/v1/history/" {
  policy = "write"
}
