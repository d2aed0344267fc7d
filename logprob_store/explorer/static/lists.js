/**
 * The list of answers and failures, with what narrows it down.
 *
 * @typedef {import("./asking.js").Overview} Overview
 * @typedef {import("./asking.js").Listed} Listed
 * @typedef {{total: number, page: number, pages: number, rows: (Listed & Record<string, unknown>)[]}} Page
 */

import { made, visible } from "../../view/page/tokens.js";
import { changed, current, filters, go, link, listed, toCompletion, toFailure } from "./address.js";
import { around, ask, counted, download, figure, Refused, title } from "./asking.js";
import { asControl, keepFocus } from "./focus.js";
import { histogram } from "./histogram.js";
import { exactBehind } from "./numbers.js";

const DRAWN = ["confidence", "perplexity", "mean_entropy", "token_count"];
const COLUMNS = ["confidence", "perplexity", "mean_entropy", "mean_margin", "token_count"];
const WORDS = ["verdict", "model", "finish_reason", "error_type", "label"];

/** Values of a column that the server lists. */
const MOST_VALUES = 50;

/** Draw the list of what the address selects.
 * @param {HTMLElement} place @param {Overview} overview @param {AbortSignal} signal
 * @param {() => void} onRows called when the rows are there, before the filters are */
export async function showList(place, overview, signal, onRows) {
  const params = listed();
  const page = await ask("rows", params, signal);
  const aside = made("form", "narrow");
  aside.setAttribute("role", "search");
  aside.setAttribute("aria-label", "Filters");
  aside.addEventListener("submit", (event) => event.preventDefault());
  const heading = made("h1", "", "Answers");
  heading.tabIndex = -1;
  const results = around("section", "results", heading, summary(page, overview), table(page, overview), paging(page));
  const opened =
    place.querySelector("details.filters")?.hasAttribute("open") ?? matchMedia("(min-width: 60rem)").matches;
  const folded = around("details", "filters", made("summary", "", "Filters"), aside);
  folded.open = opened;
  const kept = place.querySelector("form.narrow");
  keepFocus(() => {
    if (kept) aside.replaceChildren(...kept.childNodes);
    place.replaceChildren(around("div", "two", folded, results));
  });
  onRows();
  await drawFilters(aside, overview, params, signal);
}

/** @param {HTMLElement} aside @param {Overview} overview @param {URLSearchParams} params @param {AbortSignal} signal */
async function drawFilters(aside, overview, params, signal) {
  const words = [...WORDS, ...overview.kept];
  const scores = [...DRAWN, ...overview.kept].filter((name) => overview.scores.includes(name));
  const [values, bins] = await Promise.all([
    Promise.all(words.map((column) => ask("values", withColumn(filters(params), column), signal))),
    Promise.all(scores.map((score) => ask("histogram", withScore(filters(params), score), signal))),
  ]);
  /** @type {HTMLElement[]} */
  const pieces = [text(params), kind(params), runs(overview, params)];
  words.forEach((column, place) => {
    const chosen = params.getAll(column);
    const number = overview.values[column] ?? 0;
    const isRange = scores.includes(column) && number > MOST_VALUES; // numbers, which the histogram narrows down
    if ((values[place].length > 1 && !isRange) || chosen.length)
      pieces.push(choice(column, values[place], chosen, { number }));
  });
  for (const one of bins) {
    const score = one.score;
    const range = { from: params.get(`${score}.from`) ?? "", to: params.get(`${score}.to`) ?? "" };
    if (!range.from && !range.to && !one.bins.some(Boolean)) continue;
    pieces.push(
      histogram(one, range, ({ from, to }) => filter({ [`${score}.from`]: from || null, [`${score}.to`]: to || null })),
    );
  }
  const active = document.activeElement;
  if (active instanceof HTMLInputElement && active.name === "text" && active.parentElement) {
    pieces[0] = active.parentElement; // somebody types there: neither what is typed nor the cursor may be lost
  }
  keepFocus(() => aside.replaceChildren(...pieces));
}

/** Change the filter, and go to the first page.
 * @param {import("./address.js").Changes} changes */
function filter(changes) {
  go(changed({ ...changes, page: null }));
}

/** The values of a column are counted as if it were not filtered by: the others can still be chosen.
 * @param {URLSearchParams} params @param {string} column */
function withColumn(params, column) {
  params.delete(column);
  params.set("column", column);
  return params;
}

/** @param {URLSearchParams} params @param {string} score */
function withScore(params, score) {
  params.delete(`${score}.from`);
  params.delete(`${score}.to`);
  params.set("score", score);
  return params;
}

/** @param {URLSearchParams} params */
function text(params) {
  const label = made("label", "field", "Text contains");
  const input = made("input");
  input.type = "search";
  input.name = "text";
  input.maxLength = 1000;
  input.value = params.get("text") ?? "";
  /** @type {number | undefined} */
  let later;
  const search = () => {
    clearTimeout(later);
    if (input.value !== (current().get("text") ?? "")) filter({ text: input.value || null });
  };
  input.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(search, 350);
  });
  input.addEventListener("change", search);
  label.append(input);
  return label;
}

/** @param {URLSearchParams} params */
function kind(params) {
  const chosen = params.get("kind") ?? "all";
  const group = made("div", "kinds");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Answers or failures");
  for (const [value, words] of [
    ["all", "All"],
    ["answered", "Answers"],
    ["failed", "Failures"],
  ]) {
    const button = made("button", "", words);
    button.type = "button";
    button.name = `kind-${value}`;
    button.setAttribute("aria-pressed", String(value === chosen));
    button.addEventListener("click", () => filter({ kind: value === "all" ? null : value }));
    group.append(button);
  }
  return group;
}

/** @param {Overview} overview @param {URLSearchParams} params */
function runs(overview, params) {
  const counts = overview.runs.map(({ run, answers, failures }) => [run, answers + failures]);
  return choice("run", counts.reverse(), params.getAll("run"), { all: "all runs" });
}

/** A list to choose one value of a column from, each with how often it is; further ones are added.
 * @param {string} column @param {(string | number)[][]} values @param {string[]} chosen
 * @param {{all?: string, number?: number}} [how] what no choice is called; how many values there are, of which the list
 * may have only the first */
function choice(column, values, chosen, { all = "any", number = 0 } = {}) {
  const label = made("label", "field", title(column));
  const select = made("select");
  select.name = column;
  const none = made("option", "", chosen.length ? `add to ${chosen.length} chosen` : all);
  none.value = "";
  /** @param {(string | number)[][]} listed */
  const list = (listed) => {
    select.replaceChildren(none);
    for (const [value, count] of listed) {
      if (chosen.includes(String(value))) continue;
      const words = `${visible(String(value)).slice(0, 60)} (${Number(count).toLocaleString("en")})`;
      const option = made("option", "", words);
      option.value = String(value);
      select.append(option);
    }
  };
  list(values);
  select.addEventListener("change", () => filter({ [column]: [...chosen, select.value] }));
  label.append(select);
  const box = around("div", "choice", label);
  if (number > MOST_VALUES) box.prepend(search(column, number, list));
  for (const value of chosen) {
    const button = made("button", "chosen-value", `${visible(value).slice(0, 60)} ✕`);
    button.type = "button";
    button.name = `${column}-${value}`;
    button.dataset.orElse = column;
    button.setAttribute("aria-label", `Remove ${title(column)} ${visible(value)}`);
    button.addEventListener("click", () => filter({ [column]: chosen.filter((one) => one !== value) }));
    box.append(button);
  }
  return box;
}

/** A field that looks for values which the list of a column has no room for.
 * @param {string} column @param {number} number of all values @param {(values: [string, number][]) => void} list */
function search(column, number, list) {
  const label = made("label", "field", `${title(column)} contains `);
  const input = made("input");
  input.type = "search";
  input.name = `${column}.contains`;
  input.placeholder = `the list has ${MOST_VALUES} of ${number.toLocaleString("en")}`;
  /** @type {number | undefined} */
  let later;
  let asking = new AbortController();
  const find = async () => {
    asking.abort();
    asking = new AbortController();
    const params = withColumn(filters(), column);
    params.set("contains", input.value);
    try {
      list(await ask("values", params, asking.signal));
    } catch (error) {
      const isLate = error instanceof DOMException && error.name === "AbortError"; // more was typed meanwhile
      if (!isLate && !(error instanceof Refused)) throw error; // the page says by itself that the explorer was ended
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(find, 250);
  });
  label.append(input);
  return label;
}

/** @param {Page} page @param {Overview} overview */
function summary(page, overview) {
  const line = made("div", "summary");
  const said = made("p", "", counted(page.total, "row"));
  said.setAttribute("role", "status");
  const sort = made("select");
  sort.name = "sort";
  for (const name of ["as asked", ...overview.scores]) {
    const option = made("option", "", title(name));
    option.value = name;
    option.selected = name === (current().get("sort") ?? "confidence");
    sort.append(option);
  }
  sort.addEventListener("change", () => go(changed({ sort: sort.value, page: null })));
  const label = made("label", "", "Sort by ");
  label.append(sort);
  const falls = current().get("order") === "desc";
  const order = made("button", "", falls ? "highest first" : "lowest first");
  order.type = "button";
  order.name = "order";
  order.addEventListener("click", () => go(changed({ order: falls ? null : "desc", page: null })));
  line.append(said, around("div", "sorting", label, order), exports(page));
  return line;
}

/** @param {Page} page */
function exports(page) {
  const box = made("div", "exports", "Download ");
  for (const format of ["csv", "parquet"]) {
    const params = filters();
    params.set("format", format);
    const anchor = made("a", "", format === "csv" ? "CSV" : "Parquet");
    anchor.href = `/export?${params}`;
    anchor.setAttribute("download", "");
    anchor.addEventListener("click", (event) => {
      event.preventDefault();
      download(anchor.href);
    });
    anchor.setAttribute("aria-label", `Download ${counted(page.total, "row")} as ${anchor.textContent}`);
    box.append(anchor, " ");
  }
  return box;
}

/** Why a page has no rows.
 * @param {Page} page @param {Overview} overview */
function nothing(page, overview) {
  const open = overview.runs.map(({ run }) => run);
  const closed = current()
    .getAll("run")
    .filter((run) => !open.includes(run));
  if (page.total) {
    const last = link(
      `Go to page ${page.pages.toLocaleString("en")}, the last.`,
      changed({ page: String(page.pages) }),
    );
    return around("p", "", `There is no page ${page.page.toLocaleString("en")}. `, last);
  }
  if (!closed.length) return made("p", "muted", "No row has all of this. Remove a filter.");
  const words =
    closed.length === 1 ? `Run ${closed[0]} is not open here.` : `Runs ${closed.join(", ")} are not open here.`;
  const all = link("Show the runs that are.", changed({ run: null, page: null }));
  return around("p", "", `${visible(words)} Open are: ${visible(open.join(", "))}. `, all);
}

/** @param {Page} page @param {Overview} overview */
function table(page, overview) {
  if (!page.rows.length) return nothing(page, overview);
  const columns = COLUMNS.filter((name) => overview.scores.includes(name));
  if (overview.scores.includes("label_probability")) columns.unshift("label_probability");
  const several = new Set(page.rows.map(({ run }) => run)).size > 1;
  const element = made("table", "rows");
  const head = made("tr");
  head.append(heading("prompt"), ...(several ? [heading("run")] : []), heading("answer"));
  head.append(...columns.map(sorting));
  element.append(around("thead", "", head));
  const body = made("tbody");
  for (const row of page.rows) {
    const failed = row.error_type !== null;
    const line = made("tr", failed ? "failed" : "");
    const name = visible(row.prompt_id ?? "no id");
    const id = made("th");
    id.scope = "row";
    const to = failed ? toFailure(row) : toCompletion({ run: row.run, completion_id: row.completion_id ?? 0 });
    const shownId = around("div", "clamp", link(name, to));
    shownId.dir = "auto";
    id.append(shownId);
    if (row.sample_index || row.choice_index)
      id.append(made("span", "muted", ` ${row.sample_index}/${row.choice_index ?? 0}`));
    line.append(id);
    if (several) line.append(cell("run", visible(row.run), "run"));
    line.append(answer(row));
    for (const column of columns) {
      const value = row[column];
      const shown = cell(title(column), figure(value), "number");
      exactBehind(shown, value);
      if (column === "confidence" && typeof value === "number") {
        shown.classList.add("share");
        shown.style.setProperty("--share", String(value));
      }
      line.append(shown);
    }
    body.append(line);
  }
  element.append(body);
  const scrolls = around("div", "scrolls", element);
  scrolls.tabIndex = 0;
  scrolls.setAttribute("role", "region");
  scrolls.setAttribute("aria-label", "Answers");
  return scrolls;
}

/** @param {Listed} row */
function answer(row) {
  const shown = made("td", "answer");
  const box = made("div", "clamp");
  box.dir = "auto";
  if (row.error_type !== null) box.append(made("span", "tag bad", visible(row.error_type)), " ");
  else if (row.finish_reason !== null && row.finish_reason !== "stop")
    box.append(made("span", "tag", visible(row.finish_reason)), " ");
  if (row.verdict !== null)
    box.append(made("span", `tag ${row.verdict === "right" ? "good" : "bad"}`, row.verdict), " ");
  if (row.label !== null && row.label !== row.text?.trim())
    box.append(made("span", "tag good", visible(row.label)), " ");
  box.append(visible(row.text ?? "").replaceAll("\n", " ↵ ") || made("span", "muted", "no text"));
  shown.append(box);
  return shown;
}

/** @param {string} words @param {string} [className] */
function heading(words, className = "") {
  const element = made("th", className, words);
  element.scope = "col";
  return element;
}

/** The heading of a score, which sorts by it; pressed again, the other way round.
 * @param {string} name */
function sorting(name) {
  const element = heading("", "number");
  const isSorted = name === (current().get("sort") ?? "confidence");
  const falls = current().get("order") === "desc";
  const button = made("button", "plain", title(name));
  button.type = "button";
  button.name = `sort-${name}`;
  if (isSorted) {
    element.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const arrow = made("span", "", falls ? " ▼" : " ▲");
    arrow.setAttribute("aria-hidden", "true");
    button.append(arrow);
  }
  const order = isSorted && !falls ? "desc" : null;
  button.addEventListener("click", () => go(changed({ sort: name, order, page: null })));
  element.append(button);
  return element;
}

/** A cell, which on a narrow page has its column's name beside it.
 * @param {string} name @param {string} words @param {string} className */
function cell(name, words, className) {
  const element = made("td", className, words);
  element.dataset.name = name;
  return element;
}

/** @param {Page} page */
function paging(page) {
  const nav = made("nav", "paging");
  nav.setAttribute("aria-label", "Pages");
  /** @param {string} words @param {number} number @param {string} orElse */
  const to = (words, number, orElse) =>
    number >= 1 && number <= page.pages
      ? asControl(link(words, changed({ page: String(number) })), words, orElse)
      : made("span", "muted", words);
  const before = to("Previous", page.page - 1, "Next");
  const after = to("Next", page.page + 1, "Previous");
  nav.append(
    before,
    made("span", "", `page ${page.page.toLocaleString("en")} of ${page.pages.toLocaleString("en")}`),
    after,
  );
  return nav;
}
