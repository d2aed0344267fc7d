import { legend, made, percent, SHADINGS, showTokens, visible } from "../page/tokens.js";

/**
 * The list of answers of a report: which are shown, in which order, and what each shows.
 *
 * @typedef {import("../page/tokens.js").View} View
 * @typedef {import("../page/tokens.js").Measure} Measure
 * @typedef {{run: string, flip: boolean | null, position: number | null, section: string | null, js: number | null,
 *   view: View | null}} Before
 * @typedef {{question: string, options: [label: string, probability: number | null, chosen: number][]}} Question
 * @typedef {{id: string, prompt_id: string, groups: Record<string, number>, sample: number, choice?: number, finish?: string,
 *   scores?: Record<string, number | null>, right?: boolean | null, view?: View, options?: Question[], text?: string, tools?: string,
 *   before?: Before | null, failure?: {class: string, status: number | null, message: string, attempts: number},
 *   prompt?: [role: string, text: string][], kept?: Record<string, string>}} Sample
 * @typedef {{samples: Sample[], scores: string[]}} Data
 * @typedef {{group: string, order: string, by: Measure, find: string, ranges: Map<string, [number, number]>,
 *   most: number}} State
 */

const AT_ONCE = 20;
const LONG = 1200;
const FALLING = new Set(["perplexity", "mean_entropy", "token_count", "mean_missing_mass"]);

/** @type {Data} */
const data = JSON.parse(byId("data").textContent ?? "{}");
/** @type {State} */
const state = { group: "", order: "", by: "probability", find: "", ranges: new Map(), most: AT_ONCE };

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found;
}

/** All that the search looks through.
 * @param {Sample} sample */
function searched(sample) {
  const written = (sample.view?.sections ?? []).map(({ spans }) => spans.map(([text]) => text).join(""));
  const asked = (sample.prompt ?? []).map(([, text]) => text);
  const kept = Object.values(sample.kept ?? {});
  return [sample.prompt_id, sample.failure?.class, sample.failure?.message, ...written, ...asked, ...kept]
    .join("\n")
    .toLowerCase();
}
const hasTokens = data.samples.some(({ view }) => view?.sections.length);
const texts = new Map(data.samples.map((sample) => [sample, searched(sample)]));

/** The samples that the filters let through, in order. @returns {Sample[]} */
function chosen() {
  const find = state.find.toLowerCase();
  const found = data.samples.filter(
    (sample) =>
      (!state.group || state.group in sample.groups) &&
      (!find || (texts.get(sample) ?? "").includes(find)) &&
      [...state.ranges].every(([name, [from, to]]) => {
        const value = sample.scores?.[name];
        return typeof value === "number" && value >= from && value <= to;
      }),
  );
  if (!state.order) {
    return state.group ? found.sort((one, other) => one.groups[state.group] - other.groups[state.group]) : found;
  }
  const sign = FALLING.has(state.order) ? -1 : 1;
  /** @param {Sample} sample */
  const key = (sample) => sign * (sample.scores?.[state.order] ?? sign * Infinity);
  return found.sort((one, other) => key(one) - key(other) || 0);
}

function draw() {
  const found = chosen();
  const list = byId("list");
  list.replaceChildren(...found.slice(0, state.most).map(drawn));
  byId("more").hidden = found.length <= state.most;
  byId("count").textContent = `${found.length} of ${data.samples.length} shown here`;
  byId("legend").replaceChildren(...(hasTokens ? [legend(state.by)] : []));
  for (const button of byId("groups").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.group === state.group));
  }
  byId("filters").replaceChildren(
    ...[...state.ranges].map(([name, [from, to]]) => {
      const button = made("button", "", `${name} ${short(from)} to ${short(to)} ✕`);
      button.setAttribute("aria-label", `Remove the filter on ${name}`);
      button.addEventListener("click", () => setRange(name, null));
      return button;
    }),
  );
}

/** @param {number} value */
function short(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : value > 0 ? "the highest" : "the lowest";
}

/** One answer or failure.
 * @param {Sample} sample */
function drawn(sample) {
  const item = made("li", sample.before?.view ? "answer wide" : "answer");
  const head = made("div", "answer-head");
  const title = made("h3");
  title.append(bdi(sample.prompt_id ?? "no id"));
  head.append(title);
  if (sample.sample || sample.choice)
    head.append(made("span", "muted", `sample ${sample.sample}, choice ${sample.choice ?? 0}`));
  const { confidence, perplexity, token_count: count } = sample.scores ?? {};
  if (typeof confidence === "number") head.append(made("span", "", `confidence ${confidence.toPrecision(3)}`));
  if (typeof perplexity === "number") head.append(made("span", "muted", `perplexity ${perplexity.toPrecision(3)}`));
  if (typeof count === "number") head.append(made("span", "muted", `${count} ${count === 1 ? "token" : "tokens"}`));
  if (sample.finish && sample.finish !== "stop")
    head.append(made("span", "muted", `ended by ${visible(sample.finish)}`));
  if (typeof sample.right === "boolean")
    head.append(made("span", `tag ${sample.right ? "good" : "bad"}`, sample.right ? "right" : "wrong"));
  for (const group of Object.keys(sample.groups)) head.append(made("span", "tag", group));
  item.append(head);
  if (sample.failure) {
    const { class: kind, status, message, attempts } = sample.failure;
    item.append(
      definitions({ class: kind, status: status === null ? "" : String(status), message, attempts: String(attempts) }),
    );
  }
  if (sample.view && (sample.view.sections.length || !(sample.options?.length || sample.text || sample.tools)))
    item.append(...answerViews(sample, sample.view));
  if (sample.text) item.append(made("div", "text", visible(sample.text)));
  if (sample.tools) item.append(definitions({ "tool calls": sample.tools }));
  for (const question of sample.options ?? []) item.append(optionsOf(question));
  if (sample.kept && Object.keys(sample.kept).length) item.append(definitions(sample.kept));
  if (sample.prompt?.length) {
    const more = made("details");
    more.append(made("summary", "", "Prompt"));
    for (const [role, text] of sample.prompt) {
      more.append(made("div", "muted", visible(role)));
      const shown = made("div", "prompt", visible(text));
      shown.tabIndex = 0;
      more.append(shown);
    }
    item.append(more);
  }
  return item;
}

/** The answer, beside what the run before had answered where that differs.
 * @param {Sample} sample @param {View} view */
function answerViews(sample, view) {
  const before = sample.before;
  const own = made("div", isLong(view) ? "token-view long" : "token-view");
  showTokens(own, view, { by: state.by });
  if (!before?.view) return [own];
  const sides = made("div", "sides");
  const [left, right] = [made("div"), made("div")];
  const other = made("div", isLong(before.view) ? "token-view long" : "token-view");
  showTokens(other, before.view, { by: state.by });
  left.append(made("div", "muted", `before, in ${visible(before.run)}`), other);
  right.append(made("div", "muted", before.flip ? "now, another answer" : "now"), own);
  mark(own, view, before);
  mark(other, before.view, before);
  sides.append(left, right);
  return [sides];
}

/** Whether a text is too long to stand in the list as a whole.
 * @param {View} view */
function isLong({ sections }) {
  return sections.some(({ spans }) => spans.reduce((total, [text]) => total + text.length, 0) > LONG);
}

/** Mark the first token that differs.
 * @param {HTMLElement} element @param {View} view @param {Before} before */
function mark(element, view, { position, section }) {
  let place = 0;
  for (const { name, spans } of view.sections) {
    for (const [, tokens] of spans) {
      if (name === section && tokens.some(([at]) => at === position)) {
        const token = element.querySelector(`[data-place="${place}"]`);
        token?.classList.add("diverges");
        return;
      }
      place += 1;
    }
  }
}

/** A typed question with the probability of each option.
 * @param {Question} question */
function optionsOf({ question, options }) {
  const box = made("div");
  box.append(made("h4", "", visible(question)));
  const list = made("ol", "alternatives");
  for (const [label, probability, isChosen] of options) {
    const row = made("li", isChosen ? "chosen" : "");
    const bar = made("span", "bar");
    bar.style.setProperty("--share", String(probability ?? 0));
    const code = made("code", "", visible(label));
    row.append(bar, code, made("span", "share", probability === null ? "not given" : percent(probability)));
    if (isChosen) row.append(made("span", "muted", "chosen"));
    list.append(row);
  }
  box.append(list);
  return box;
}

/** @param {string} text */
function bdi(text) {
  return made("bdi", "", visible(text));
}

/** @param {Record<string, string>} pairs */
function definitions(pairs) {
  const list = made("dl");
  for (const [name, value] of Object.entries(pairs)) {
    if (value !== "") list.append(made("dt", "", visible(name)), made("dd", "", visible(value)));
  }
  return list;
}

/** Show only answers with a score in a range; null for all.
 * @param {string} name @param {[number, number] | null} range */
function setRange(name, range) {
  if (range) {
    state.ranges.set(name, range);
    state.group = ""; // the range is of all answers, not of the least sure alone
  } else state.ranges.delete(name);
  state.most = AT_ONCE;
  for (const show of brushes.get(name) ?? []) show(range);
  draw();
}

/** What shows the range of a score in its charts.
 * @type {Map<string, ((range: [number, number] | null) => void)[]>} */
const brushes = new Map();

/** Let a part of a chart be chosen, by dragging or by two numbers.
 * @param {SVGSVGElement} svg */
function brushed(svg) {
  const { field = "", domain = "", scale } = svg.dataset;
  const plot = svg.querySelector(".root .background");
  const [low, high] = domain.split(" ").map(Number);
  if (!data.scores.includes(field) || !(plot instanceof SVGGraphicsElement) || !(high > low)) return;
  svg.dataset.brush = "";
  const isLog = scale === "log";
  const [start, end] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  /** @param {number} share */
  const valueAt = (share) => {
    const at = start + Math.min(1, Math.max(0, share)) * (end - start);
    return isLog ? Math.exp(at) : at;
  };
  /** @param {number} value */
  const shareOf = (value) => Math.min(1, Math.max(0, ((isLog ? Math.log(value) : value) - start) / (end - start)));
  const rectangle = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rectangle.setAttribute("class", "brush");
  plot.parentElement?.append(rectangle);
  const box = plot.getBBox();
  const [from, to] = [rangeInput(`${field} from`), rangeInput(`${field} to`)];
  const fields = made("div", "range");
  const clear = made("button", "", "all");
  clear.addEventListener("click", () => setRange(field, null));
  fields.append(from, "to", to, clear);
  svg.after(fields);

  /** @param {[number, number] | null} range */
  const show = (range) => {
    rectangle.style.display = range ? "" : "none";
    from.value = range && Number.isFinite(range[0]) ? short(range[0]) : "";
    to.value = range && Number.isFinite(range[1]) ? short(range[1]) : "";
    if (!range) return;
    const [left, right] = [shareOf(range[0] === -Infinity ? low : range[0]), shareOf(range[1])];
    rectangle.setAttribute("x", String(box.x + left * box.width));
    rectangle.setAttribute("width", String(Math.max(1, (right - left) * box.width)));
    rectangle.setAttribute("y", String(box.y));
    rectangle.setAttribute("height", String(box.height));
  };
  show(null);
  brushes.set(field, [...(brushes.get(field) ?? []), show]);
  const typed = () => {
    const [first, last] = [from.value, to.value].map((value) => (value === "" ? NaN : Number(value)));
    const isAll = Number.isNaN(first) && Number.isNaN(last);
    setRange(field, isAll ? null : [Number.isNaN(first) ? -Infinity : first, Number.isNaN(last) ? Infinity : last]);
  };
  from.addEventListener("change", typed);
  to.addEventListener("change", typed);

  /** @type {number | null} */
  let begun = null;
  /** @param {PointerEvent} event */
  const shareAt = (event) => {
    const place = plot.getBoundingClientRect();
    return (event.clientX - place.left) / place.width;
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    begun = shareAt(event);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (begun === null) return;
    const shares = [begun, shareAt(event)].sort((one, other) => one - other);
    show([valueAt(shares[0]), valueAt(shares[1])]);
  });
  svg.addEventListener("pointerup", (event) => {
    if (begun === null) return;
    const shares = [begun, shareAt(event)].sort((one, other) => one - other);
    begun = null;
    setRange(field, shares[1] - shares[0] < 0.01 ? null : [valueAt(shares[0]), valueAt(shares[1])]);
  });
  svg.addEventListener("pointercancel", () => {
    begun = null;
    show(state.ranges.get(field) ?? null);
  });
}

/** @param {string} name */
function rangeInput(name) {
  const input = made("input");
  input.type = "number";
  input.step = "any";
  input.setAttribute("aria-label", name);
  input.placeholder = name.split(" ").pop() ?? "";
  return input;
}

/** A choice of a select element.
 * @param {string} value @param {string} words */
function option(value, words) {
  const element = made("option", "", words);
  element.value = value;
  return element;
}

function start() {
  const groups = [...new Set(data.samples.flatMap(({ groups: names }) => Object.keys(names)))];
  state.group = groups.includes("least sure") ? "least sure" : "";
  for (const [group, words] of [...groups.map((name) => [name, name]), ["", "all"]]) {
    const button = made("button", "", words);
    button.dataset.group = group;
    button.addEventListener("click", () => {
      state.group = group;
      state.most = AT_ONCE;
      draw();
    });
    byId("groups").append(button);
  }
  const order = byId("order");
  order.append(option("", "as chosen"), ...data.scores.map((name) => option(name, name.replaceAll("_", " "))));
  order.addEventListener("change", () => {
    state.order = order instanceof HTMLSelectElement ? order.value : "";
    draw();
  });
  const by = byId("by");
  by.append(...Object.entries(SHADINGS).map(([name, { title }]) => option(name, title)));
  by.addEventListener("change", () => {
    if (by instanceof HTMLSelectElement) state.by = /** @type {Measure} */ (by.value);
    draw();
  });
  const find = byId("find");
  find.addEventListener("input", () => {
    if (find instanceof HTMLInputElement) state.find = find.value;
    state.most = AT_ONCE;
    draw();
  });
  byId("more").addEventListener("click", () => {
    state.most += AT_ONCE;
    draw();
  });
  byId("controls").hidden = false;
  for (const svg of document.querySelectorAll("svg[data-field]")) if (svg instanceof SVGSVGElement) brushed(svg);
  draw();
}

start();
