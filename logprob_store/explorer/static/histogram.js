/**
 * A histogram whose bars are drawn from counts, and whose range is chosen by pointer or by two numbers.
 *
 * @typedef {{score: string, low: number, high: number, bins: number[], missing: number, beyond: boolean}} Bins
 * @typedef {{from: string, to: string}} Range
 */

import { made } from "../../view/page/tokens.js";
import { counted, title } from "./asking.js";
import { above, below, told } from "./numbers.js";

const WIDTH = 240;
const HEIGHT = 56;
const SVG = "http://www.w3.org/2000/svg";

/** @param {string} tag @param {Record<string, string | number>} attributes */
function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/** A histogram of one score.
 * @param {Bins} bins @param {Range} range that is chosen @param {(range: Range) => void} onChange */
export function histogram(bins, range, onChange) {
  const figureElement = made("figure", "histogram");
  const most = Math.max(1, ...bins.bins);
  const known = bins.bins.reduce((sum, count) => sum + count, 0);
  const chart = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });
  chart.setAttribute("aria-label", said(bins, known));
  const step = (bins.high - bins.low) / bins.bins.length;
  const wide = WIDTH / bins.bins.length;
  bins.bins.forEach((count, place) => {
    const tall = count ? Math.max(1.5, (HEIGHT - 2) * (count / most)) : 0;
    const bar = drawn("rect", { x: place * wide, y: HEIGHT - tall, width: wide - 0.6, height: tall });
    const words = drawn("title", {});
    words.textContent = `${told(bins.low + place * step, step)} to ${told(bins.low + (place + 1) * step, step)}: ${count.toLocaleString("en")}`;
    bar.append(words);
    chart.append(bar);
  });
  const brush = drawn("rect", { class: "brush", y: 0, height: HEIGHT });
  chart.append(brush);
  /** @param {number} value */
  const placeOf = (value) => (WIDTH * (value - bins.low)) / (bins.high - bins.low);
  const from = range.from === "" ? bins.low : Number(range.from);
  const to = range.to === "" ? bins.high : Number(range.to);
  cover(brush, placeOf(from), placeOf(to), range.from !== "" || range.to !== "");
  brushing(chart, brush, (left, right) => {
    /** @param {number} place */
    const valueAt = (place) => bins.low + (place * (bins.high - bins.low)) / WIDTH;
    onChange({
      from: left <= 0 ? "" : below(valueAt(left), step),
      to: right >= WIDTH ? "" : above(valueAt(right), step),
    });
  });
  const caption = made("figcaption", "", title(bins.score));
  if (bins.missing) caption.append(made("span", "muted", ` ${counted(bins.missing, "row")} without`));
  const ends = made("div", "ends muted");
  ends.append(
    made("span", "", told(bins.low, step)),
    made("span", "", `${told(bins.high, step)}${bins.beyond ? " and more" : ""}`),
  );
  figureElement.append(caption, chart, ends, numbers(bins.score, range, onChange));
  return figureElement;
}

/** What a screen reader says of a histogram.
 * @param {Bins} bins @param {number} known */
function said(bins, known) {
  const step = (bins.high - bins.low) / bins.bins.length;
  const largest = bins.bins.indexOf(Math.max(...bins.bins));
  const around = `${told(bins.low + largest * step, step)} to ${told(bins.low + (largest + 1) * step, step)}`;
  return `Histogram of ${title(bins.score)}: ${counted(known, "row")}, most from ${around}`;
}

/** The two ends of a range as numbers to type.
 * @param {string} score @param {Range} range @param {(range: Range) => void} onChange */
function numbers(score, range, onChange) {
  const row = made("div", "range");
  /** @type {("from" | "to")[]} */
  const names = ["from", "to"];
  const inputs = names.map((end) => {
    const label = made("label", "", `${end} `);
    const input = made("input");
    input.type = "number";
    input.step = "any";
    input.value = range[end];
    input.name = `${score}.${end}`;
    input.setAttribute("aria-label", `${title(score)} ${end}`);
    input.addEventListener("change", () => onChange({ ...range, [end]: input.value }));
    label.append(input);
    return label;
  });
  row.append(...inputs);
  if (range.from !== "" || range.to !== "") {
    const clear = made("button", "plain", "✕");
    clear.type = "button";
    clear.name = `${score}.clear`;
    clear.dataset.orElse = `${score}.from`;
    clear.setAttribute("aria-label", `Remove the filter on ${title(score)}`);
    clear.addEventListener("click", () => onChange({ from: "", to: "" }));
    row.append(clear);
  }
  return row;
}

/** @param {Element} brush @param {number} left @param {number} right @param {boolean} shown */
function cover(brush, left, right, shown) {
  const begin = Math.min(Math.max(0, left), WIDTH);
  brush.setAttribute("x", String(begin));
  brush.setAttribute("width", String(shown ? Math.max(1, Math.min(right, WIDTH) - begin) : 0));
}

/** Let a range be drawn over a chart.
 * @param {Element} chart @param {Element} brush @param {(left: number, right: number) => void} onEnd */
function brushing(chart, brush, onEnd) {
  /** @type {number | null} */
  let start = null;
  /** @param {PointerEvent} event */
  const placeOf = (event) => {
    const box = chart.getBoundingClientRect();
    return Math.min(WIDTH, Math.max(0, (WIDTH * (event.clientX - box.left)) / box.width));
  };
  chart.addEventListener("pointerdown", (event) => {
    if (!(event instanceof PointerEvent) || event.button) return;
    start = placeOf(event);
    chart.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  chart.addEventListener("pointermove", (event) => {
    if (start === null || !(event instanceof PointerEvent)) return;
    const now = placeOf(event);
    cover(brush, Math.min(start, now), Math.max(start, now), true);
  });
  chart.addEventListener("pointercancel", () => {
    start = null;
  });
  chart.addEventListener("pointerup", (event) => {
    if (start === null || !(event instanceof PointerEvent)) return;
    const now = placeOf(event);
    const [left, right] = [Math.min(start, now), Math.max(start, now)];
    start = null;
    if (right - left < 3) onEnd(0, WIDTH);
    else onEnd(left, right);
  });
}
