"""Text for a person at a terminal.

`highlight` colours the tokens of a completion by probability, `terminal_tables` prints tables, `progress` reports on a
run, and `safe_text` replaces the control characters in what models and servers send.
"""
