"""Charts by Altair of what was computed elsewhere: frames in, charts out, and a chart as SVG for a page."""
