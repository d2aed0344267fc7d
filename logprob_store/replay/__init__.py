"""Recorded answers: the files (`fixtures`), the nearest recording (`matching`), a client for tests (`client`)."""
