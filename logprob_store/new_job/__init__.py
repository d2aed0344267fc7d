"""A job file for somebody's own prompts, and a demo that runs offline."""
