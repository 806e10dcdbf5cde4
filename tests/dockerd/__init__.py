"""A Docker daemon of our own, with everything below one directory, and one image: a static HTTP server."""
