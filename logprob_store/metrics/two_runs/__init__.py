"""Two runs of the same prompts: which answers changed, and by how much the probabilities moved."""
