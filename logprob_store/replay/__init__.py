"""Recorded answers, replayed without network, cache or API key.

`fixtures` reads and writes the files, `matching` answers a request or names the nearest recording, `client` makes
OpenAI clients for tests, and `pytest_plugin` makes these pytest fixtures.
"""
