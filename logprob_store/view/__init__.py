"""What a person sees: tokens coloured by probability, tables on a terminal."""

from __future__ import annotations
