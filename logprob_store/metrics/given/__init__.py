"""Text that was given: candidates to choose from, and perplexities of whole texts."""
