"""Readers of what other tools leave on disk, one module each. `base` is the protocol, `registry` the list."""
