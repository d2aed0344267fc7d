"""A chart as SVG for a page: no script, nothing from elsewhere, right in light and dark, and read out as one picture.

The SVG has the size of the chart and may be scaled, as with `svg { max-width: 100%; height: auto }`. Its colours are
the CSS variables of `palette.CSS_VARIABLES`, and its text has the colour of the text around it. A bar or a point with
words to it shows them when it is pointed at. Text from data is only text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from logprob_store.charts.palette import CSS_VARIABLES, LINE, TEXT
from logprob_store.charts.words import short_text
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    import altair as alt

_MEASURED_FONT: Final = "Liberation Sans"
"""Comes with vl-convert, so that a chart has the same layout on each machine."""
_SHOWN_FONT: Final = "system-ui, 'Liberation Sans', Arial, sans-serif"
_SVG: Final = "{http://www.w3.org/2000/svg}"
_LONGEST_DESCRIPTION: Final = 1000
_NOISE: Final = ("role", "aria-roledescription", "aria-hidden", "pointer-events")
"""Attributes that the picture as a whole makes superfluous."""
_USUAL: Final = {"opacity": "1", "stroke-width": "1", "font-weight": "normal", "font-family": _MEASURED_FONT}
"""What an element has anyway, or from the root."""
_INHERITED: Final = ("fill", "stroke", "fill-opacity", "stroke-width", "stroke-dasharray", "font-size", "text-anchor")
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_CONFIG: Final = {
    "background": None,
    "font": _MEASURED_FONT,
    "view": {"stroke": None},
    "padding": {"left": 10, "right": 10, "top": 4, "bottom": 4},  # the font that is shown may be a little wider
    "axis": {
        **dict.fromkeys(("labelColor", "titleColor"), TEXT),
        **dict.fromkeys(("domainColor", "tickColor", "gridColor"), LINE),
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "legend": {**dict.fromkeys(("labelColor", "titleColor"), TEXT), "labelFontSize": 12, "titleFontSize": 12},
    "title": {"color": TEXT, "subtitleColor": TEXT, "fontSize": 13, "subtitleFontSize": 12, "anchor": "start"},
    "text": {"color": TEXT},
}
_STANDALONE: Final = """
svg { color: #1f2329; background: #fff }
@media (prefers-color-scheme: dark) {
  svg { color: #e6e9ee; background: #15181c; --accent: #7b9bf0; --second: #ee8a54; --quiet: #9a9a9a; --line: #3a4048 }
}
"""


def as_svg(
    chart: alt.TopLevelMixin,
    description: str,
    *,
    width: int | None = None,
    height: int | None = None,
    field: str | None = None,
    titled: bool = True,
    standalone: bool = False,
) -> str:
    """A chart as an SVG element.

    On the `<svg>` are `role="img"`, the description as `aria-label` and, where the x axis has a domain, for scripts
    that turn pixels into values: `data-domain`, its two ends with a space between; `data-scale`, linear or log; and
    `data-field`. The path of class `background` in the group of class `root` is the box that the domain spans.

    Args:
        chart: any chart of Altair.
        description: what the chart shows, in words, for those who do not see it.
        width: of the whole picture in pixels; None for that of the chart. For a chart that is no row of charts.
        height: the same.
        field: the column of what is on the x axis.
        titled: whether to keep the chart's title.
        standalone: whether it is a file of its own, which brings its colours for light and dark.

    Raises:
        ImportError: altair or vl-convert is not installed: `pip install 'logprob-store[view]'`.

    >>> import polars as pl
    >>> from logprob_store.charts.value_counts import value_counts
    >>> from logprob_store.charts.histograms import histogram
    >>> from logprob_store.charts.distributions import distribution
    >>> counts = value_counts(pl.LazyFrame({"confidence": [0.5, 0.75]}), ["confidence"])
    >>> as_svg(histogram(distribution(counts, "confidence")), "two answers", width=300)[:52]
    '<svg xmlns="http://www.w3.org/2000/svg" width="300" '
    """
    spec = chart.to_dict()
    spec["config"] = _CONFIG
    if not titled:
        spec.pop("title", None)
    is_one_view = not {"hconcat", "vconcat", "concat", "facet", "repeat"} & spec.keys()
    if is_one_view and (width is not None or height is not None):
        kind = "fit-x" if height is None else "fit-y" if width is None else "fit"
        spec["autosize"] = {"type": kind, "contains": "padding"}
        spec |= {name: size for name, size in (("width", width), ("height", height)) if size is not None}
    drawn = import_extra("vl_convert").vegalite_to_svg(spec)
    root = ET.fromstring(drawn)  # noqa: S314  vl-convert wrote it
    _tidy(root)
    size = {name: root.attrib[name] for name in ("width", "height", "viewBox")}
    root.attrib.clear()
    label = short_text(description, _LONGEST_DESCRIPTION)
    root.attrib |= {"xmlns": _SVG[1:-1], **size, "font-family": _SHOWN_FONT, "role": "img", "aria-label": label}
    if is_one_view and (x := next(_x_scales(spec), None)) is not None:
        root.set("data-domain", " ".join(f"{end!r}" for end in x["domain"]))
        root.set("data-scale", x.get("type", "linear"))
    if field is not None:
        root.set("data-field", short_text(field, _LONGEST_DESCRIPTION))
    if standalone:
        style = ET.Element("style")
        style.text = _STANDALONE
        root.insert(0, style)
    return ET.tostring(root, encoding="unicode")


def _x_scales(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The scales of the x axis that have a domain, of a chart and its layers."""
    scale = spec.get("encoding", {}).get("x", {}).get("scale") or {}
    if len(scale.get("domain") or ()) == 2 and all(isinstance(end, int | float) for end in scale["domain"]):  # noqa: PLR2004  two ends
        yield scale
    for layer in spec.get("layer", ()):
        yield from _x_scales(layer)


def _tidy(element: ET.Element) -> None:
    """Take out what draws nothing, name the colours, shorten the numbers, and make labels hints."""
    element.tag = element.tag.removeprefix(_SVG)
    said = element.attrib.pop("aria-label", None)
    if said is not None and "mark-" not in element.get("class", "") and element.tag in {"path", "rect"}:
        ET.SubElement(element, "title").text = said
    element.attrib = {
        name: CSS_VARIABLES.get(value, value) if name in {"fill", "stroke"} else _LONG_NUMBER.sub(_shorter, value)
        for name, value in element.attrib.items()
        if name not in _NOISE and _USUAL.get(name) != value
    }
    for child in list(element):
        if child.get("display") == "none" or child.get("d") == "M0,0h0v0h0Z":
            element.remove(child)
        elif child.tag != "title":
            _tidy(child)
    _share(element)


def _share(group: ET.Element) -> None:
    """Write what all marks of a group have in common once, at the group."""
    marks = list(group)
    if len(marks) < 2 or not group.get("class", "").startswith("mark-"):  # noqa: PLR2004  one has nothing in common
        return
    for name in _INHERITED:
        values = {mark.get(name) for mark in marks}
        if len(values) == 1 and (value := values.pop()) is not None:
            group.set(name, value)
            for mark in marks:
                del mark.attrib[name]


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
