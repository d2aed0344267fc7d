"""A chart as SVG: what a page, a script and a screen reader find in it, and that text from data is only text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from logprob_store.charts.breakdowns import label_breakdown
from logprob_store.charts.distributions import distribution
from logprob_store.charts.histograms import compared_histograms, histogram
from logprob_store.charts.palette import CSS_VARIABLES
from logprob_store.charts.svg import as_svg
from logprob_store.charts.value_counts import value_counts

if TYPE_CHECKING:
    import altair as alt

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>]]>&\"' \x00\x1b[31m\u202e{{ x }} =cmd|x \ufffe مرحبا"


def bars(score: str = "confidence", values: tuple[float, ...] = (0.5, 0.7)) -> alt.Chart:
    """A histogram."""
    return histogram(distribution(value_counts(pl.LazyFrame({score: values}), [score]), score))


def drawn(chart: alt.TopLevelMixin, description: str = "a chart", **settings: object) -> ET.Element:
    """The root of a chart's SVG."""
    return ET.fromstring(as_svg(chart, description, **settings))  # type: ignore[arg-type]  # noqa: S314  our own


def test_it_is_one_picture_for_a_screen_reader() -> None:
    """With the description as its name, and no roles inside."""
    root = drawn(bars(), "confidence of two answers")

    assert (root.get("role"), root.get("aria-label")) == ("img", "confidence of two answers")
    assert [element for element in root.iter() if element is not root and element.get("role")] == []


def test_a_script_can_map_pixels_to_values() -> None:
    """The domain and the scale of the x axis, its column, and the box that the domain spans."""
    root = drawn(bars("perplexity", (1.0, 100.0)), field="perplexity")
    frame = next(element for element in root.iter() if "root" in element.get("class", "").split())
    box = next(element for element in frame.iter() if element.get("class") == "background")
    low, high = map(float, root.attrib["data-domain"].split(" "))

    assert (low, high) == (1.0, pytest.approx(10**2.1))
    assert (root.get("data-scale"), root.get("data-field")) == ("log", "perplexity")
    assert box.get("d") == "M0,0h300v140h-300Z"


@pytest.mark.parametrize("width", [280, 372])
def test_it_has_the_width_that_is_asked_for(width: int) -> None:
    """In all, with axes: it fits on a phone."""
    assert drawn(bars(), width=width).get("width") == str(width)


def test_colours_are_names_of_the_page_s() -> None:
    """With a fallback each, so that a file by itself has colours too."""
    colours = {element.get(name) for element in drawn(bars()).iter() for name in ("fill", "stroke")} - {None, "none"}

    assert colours <= {*CSS_VARIABLES.values()}
    assert "var(--accent, #4269d0)" in colours


def test_nothing_comes_from_elsewhere_or_runs() -> None:
    """No script, no link, no style attribute, no id that another chart may have."""
    text = as_svg(bars(), "a chart")

    assert not re.search(r"<script|<image|<use|href|url\(|\sstyle=|\sid=|\son\w+=", text)


def test_a_bar_says_its_number_when_pointed_at() -> None:
    """0.5 is in the bin that begins there, of 1/40."""
    titles = [element.text for element in drawn(bars()).iter(f"{SVG}title")]

    assert titles == ["0.5 to 0.525: 1 answer", "0.7 to 0.725: 1 answer"]


def test_text_from_data_is_only_text() -> None:
    """In labels, names of scores and runs, and descriptions; what draws nothing or turns a line has a sign instead."""
    rows = pl.LazyFrame({"label": [HOSTILE], "label_probability": [0.5]})
    counts = value_counts(pl.LazyFrame({"run": [HOSTILE], HOSTILE: [1.0]}), [HOSTILE], by="run")
    charts = (label_breakdown(rows), compared_histograms(distribution(counts, HOSTILE), HOSTILE, "b"))
    for chart in charts:
        text = as_svg(chart, HOSTILE, field=HOSTILE)
        tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(text).iter()}  # noqa: S314  our own

        assert tags <= {"svg", "g", "path", "line", "text", "title", "tspan"}
        assert not re.search("[\x00\x1b\u202e\ufffe]", text)
        assert "&lt;script&gt;alert(1)" in text


def test_a_file_of_its_own_knows_dark_from_light() -> None:
    """A page's style does not reach into it."""
    text = as_svg(bars(), "a chart", standalone=True)

    assert "prefers-color-scheme: dark" in text


def test_a_chart_of_several_is_drawn_too() -> None:
    """Without a domain, which would be of one of them."""
    root = drawn(bars() | bars())

    assert root.get("data-domain") is None
    assert len(list(root.iter(f"{SVG}title"))) == 4


def test_a_title_can_be_left_to_the_page() -> None:
    """Where the page has a heading of its own."""
    assert "2 answers" in as_svg(bars(), "a chart")
    assert "2 answers" not in as_svg(bars(), "a chart", titled=False)


def test_it_is_the_same_each_time() -> None:
    """A page that is made again is the same file."""
    assert as_svg(bars(), "a chart") == as_svg(bars(), "a chart")
