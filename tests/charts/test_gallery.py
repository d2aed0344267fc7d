"""The gallery of the docs: each picture is what the code above it draws, small, and without anything from elsewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = sorted((DOCS / "gallery").glob("*.svg"))


def test_pictures_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make docs` draws them, the same on each machine."""
    monkeypatch.syspath_prepend(DOCS)
    drawn = importlib.import_module("generate_gallery").pictures()

    assert sorted(drawn) == FILES
    assert [path.name for path, text in drawn.items() if path.read_text(encoding="utf-8") != text] == []


def test_pictures_are_small() -> None:
    """Each below 40 KB, and 400 KB in all."""
    sizes = [path.stat().st_size for path in FILES]

    assert max(sizes) < 40_000
    assert sum(sizes) < 400_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_picture_stands_by_itself(path: Path) -> None:
    """Well-formed, named for a screen reader, with colours for light and dark, and nothing from elsewhere."""
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314  committed here

    assert root.get("aria-label")
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r'(?:href|src)=|url\(|@import|<script|"https?:(?!//www\.w3\.org/2000/svg")', text) == []
