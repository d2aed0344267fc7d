"""How many scores are computed at once: by name, in batches of parts, over arrays."""
