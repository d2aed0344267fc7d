"""Metrics of alternatives: by hand, against slow references, and as laws of cut distributions."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

# by path: tests are no package
from reference import entropy_of, lower_of, margin_of, missing_of, upper_of  # type: ignore[import-not-found]

import logprob_store.metrics as ls
