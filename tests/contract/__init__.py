"""The contract of `registry.store`, proven on every backend: see `backends` for how to add one."""
