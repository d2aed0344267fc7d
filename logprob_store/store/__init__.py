"""The store: one folder per table, one manifest per run. `writing` commits, `reading` shows what is committed."""

from __future__ import annotations
