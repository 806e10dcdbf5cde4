# A service that a host serves: SERVICE is its name.
service "SERVICE" {
  policy = "write"
}
