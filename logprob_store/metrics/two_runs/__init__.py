"""Two runs of the same prompts, compared."""
