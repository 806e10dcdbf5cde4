"""The HTTP API judged by clients that nobody here wrote, and by a real Consul."""
