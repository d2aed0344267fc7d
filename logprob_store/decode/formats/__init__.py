"""The wire formats, one module each; `base` is the protocol, `registry` the list."""
