"""The compiled way through regular chat answers: many at once, no Python object per token."""
