"""`python -m logprob_store` does what `logprobs` does."""

from __future__ import annotations

from logprob_store.cli import main

if __name__ == "__main__":
    main()
