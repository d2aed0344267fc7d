"""Decoding: raw response bodies to Arrow tables, and back. No I/O. `formats.registry` lists the wire formats."""
