"""The store: one folder per table, one manifest per run. `writing` commits, `tables` shows what is committed."""
