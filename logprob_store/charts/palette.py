"""The colours of charts, and the CSS variables that stand for them on a page.

Charts are drawn in these colours, whose contrast is above 3 on white and on the greys of dark notebooks; `svg.as_svg`
replaces them by the variables, whose fallbacks are for white. Nothing is told apart by its colour alone: what has
another colour also has another shape, line or word.
"""

from __future__ import annotations

from typing import Final

ACCENT: Final = "#5a7de0"
"""What is measured, and the first of two runs."""
SECOND: Final = "#dd6526"
"""The second of two runs, errors and failures: an orange that stays apart from the blue for every kind of sight."""
QUIET: Final = "#808080"
"""What marks are compared with: the diagonal, an interval."""
TEXT: Final = "#1f2329"
LINE: Final = "#d0d7df"

CSS_VARIABLES: Final = {
    ACCENT: "var(--accent, #4269d0)",
    SECOND: "var(--second, #c8501e)",
    QUIET: "var(--quiet, #6f6f6f)",
    LINE: f"var(--line, {LINE})",
    TEXT: "currentColor",
}
"""What stands in an SVG in place of each colour. TEXT is that of the page around it."""
