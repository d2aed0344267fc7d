/**
 * Questions in SQL, answered as a table.
 *
 * @typedef {{columns: string[], kinds: string[], rows: (string | number | boolean | null)[][], more: boolean, error?: string}} Answer
 */

import { made, visible } from "../../view/page/tokens.js";
import { changed, current, go, link, toCompletion } from "./address.js";
import { around, counted, Refused, send } from "./asking.js";
import { asCsv, save } from "./csv.js";
import { short } from "./numbers.js";

const EXAMPLES = [
  "select label, count(*) as answers, avg(confidence) as confidence from scores group by label order by answers desc",
  "select run, finish_reason, count(*) as answers, sum(cost_usd) as usd from scores group by run, finish_reason",
  "select token, count(*) as times, avg(logprob) as logprob from tokens group by token having count(*) > 5 order by logprob limit 50",
];
/** How a text ends that the server has cut. */
const CUT = / … \([\d,]+ characters\)$/;
const TABLES =
  "scores, completions, tokens, alternatives, prompts, answers, decisions, decided, failures, imports, runs";

/** @param {HTMLElement} place @param {AbortSignal} signal */
export async function showSql(place, signal) {
  const query = current().get("query") ?? "";
  const form = made("form", "sql");
  const label = made("label", "field", "Query");
  const area = made("textarea");
  area.name = "query";
  area.rows = 5;
  area.spellcheck = false;
  area.value = query || EXAMPLES[0];
  label.append(area);
  const run = made("button", "primary", "Run");
  run.type = "submit";
  form.append(
    label,
    around("p", "muted", `Tables: ${TABLES}. Only reads; 1,000 rows and 10 seconds at most. Ctrl-Enter runs it.`),
    run,
  );
  const ask = () => go(changed({ query: area.value }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });
  const title = made("h1", "", "SQL");
  title.tabIndex = -1;
  const examples = made("ul", "examples");
  for (const example of EXAMPLES) examples.append(around("li", "", link(example, changed({ query: example }))));
  const result = made("div", "result");
  result.setAttribute("aria-live", "polite");
  place.replaceChildren(
    title,
    around("section", "panel", form),
    result,
    around("section", "panel", made("h2", "", "For example"), examples),
  );
  if (!query) return;
  result.append(made("p", "muted", "Asking …"));
  const began = performance.now();
  try {
    const answer = /** @type {Answer} */ (await send("sql", { query }, signal));
    if (signal.aborted) return;
    if (answer.error) throw new Refused(answer.error);
    result.replaceChildren(...table(answer, performance.now() - began));
  } catch (error) {
    if (signal.aborted || !(error instanceof Error)) return;
    const words = made("p", "problem", visible(error.message));
    result.replaceChildren(words);
  }
}

/** @param {Answer} answer @param {number} took in milliseconds */
function table(answer, took) {
  const { columns, kinds, rows, more } = answer;
  const isCut = rows.flat().some((value) => typeof value === "string" && CUT.test(value));
  const said = [
    more ? `the first ${counted(rows.length, "row")}, there are more` : counted(rows.length, "row"),
    `${(took / 1000).toFixed(2)} s`,
    ...(isCut ? ["long texts are cut"] : []),
  ].join(", ");
  const exact = made("p", "muted exact", "Arrow keys go from cell to cell. A number is copied with all its digits.");
  const element = made("table", "sql-rows");
  element.setAttribute("role", "grid");
  element.setAttribute("aria-label", "Rows of the query");
  const head = made("tr");
  columns.forEach((name, place) => {
    const cell = made("th", kinds[place] === "number" ? "number" : "", visible(name));
    cell.scope = "col";
    head.append(cell);
  });
  const body = made("tbody");
  for (const row of rows) body.append(around("tr", "", ...row.map((_, place) => cellOf(answer, row, place))));
  element.append(around("thead", "", head), body);
  walkedByKeys(body);
  /** @param {Event} event */
  const tell = ({ target }) => {
    const cell = target instanceof Element ? target.closest("td") : null;
    if (cell) exact.textContent = `${visible(columns[cell.cellIndex])}: ${exactly(cell)}`;
  };
  body.addEventListener("focusin", tell);
  body.addEventListener("pointerover", tell);
  const scrolls = around("div", "scrolls", element);
  scrolls.addEventListener("copy", (event) => copyExactly(event, body));
  const button = made("button", "", "Download as CSV");
  button.addEventListener("click", () => save("query.csv", asCsv(columns, kinds, rows)));
  return [
    around(
      "section",
      "panel",
      around("div", "summary", made("p", "muted", said), button),
      ...(rows.length ? [exact] : []),
      scrolls,
    ),
  ];
}

/** @param {Answer} answer @param {Answer["rows"][0]} row @param {number} place of the column */
function cellOf({ columns, kinds }, row, place) {
  const value = row[place];
  const run = columns.indexOf("run");
  const isLong = typeof value === "string" && value.length > 40;
  const cell = made("td", kinds[place] === "number" ? "number" : isLong ? "long" : "");
  cell.tabIndex = -1;
  if (value === null) cell.append(made("span", "muted", "null"));
  else if (columns[place] === "completion_id" && run >= 0)
    cell.append(link(String(value), toCompletion({ run: String(row[run]), completion_id: String(value) })));
  else if (typeof value === "number") {
    cell.textContent = short(value);
    if (cell.textContent !== String(value)) cell.title = String(value);
  } else cell.textContent = visible(String(value));
  return cell;
}

/** What a cell holds, with all digits of a number.
 * @param {HTMLTableCellElement} cell */
function exactly(cell) {
  return cell.title || (cell.textContent ?? "");
}

/** Let arrow keys, Home and End go from cell to cell, of which one is reached by Tab.
 * @param {HTMLTableSectionElement} body */
function walkedByKeys(body) {
  const first = body.rows[0]?.cells[0];
  if (first) first.tabIndex = 0;
  body.addEventListener("focusin", ({ target }) => {
    const cell = target instanceof Element ? target.closest("td") : null;
    if (!cell) return;
    for (const one of body.querySelectorAll('td[tabindex="0"]')) one.setAttribute("tabindex", "-1");
    cell.tabIndex = 0;
  });
  body.addEventListener("keydown", (event) => {
    const cell = event.target instanceof Element ? event.target.closest("td") : null;
    const line = cell?.parentElement;
    if (!cell || !(line instanceof HTMLTableRowElement) || event.ctrlKey || event.altKey || event.metaKey) return;
    const at = line.sectionRowIndex;
    const to = {
      ArrowLeft: line.cells[cell.cellIndex - 1],
      ArrowRight: line.cells[cell.cellIndex + 1],
      ArrowUp: body.rows[at - 1]?.cells[cell.cellIndex],
      ArrowDown: body.rows[at + 1]?.cells[cell.cellIndex],
      Home: line.cells[0],
      End: line.cells[line.cells.length - 1],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to.focus();
  });
}

/** Copy the cells that are selected, or the one that has the focus, with all digits; a part of one text as it is.
 * @param {ClipboardEvent} event @param {HTMLTableSectionElement} body */
function copyExactly(event, body) {
  const selection = document.getSelection();
  const isCollapsed = !selection?.rangeCount || selection.isCollapsed;
  /** @param {HTMLTableCellElement} cell */
  const isMeant = (cell) => (isCollapsed ? cell.contains(document.activeElement) : selection.containsNode(cell, true));
  const lines = [...body.rows].map((row) => [...row.cells].filter(isMeant)).filter((cells) => cells.length);
  if (!lines.length || (!isCollapsed && lines.flat().length === 1 && !lines[0][0].title)) return;
  event.clipboardData?.setData("text/plain", lines.map((cells) => cells.map(exactly).join("\t")).join("\n"));
  event.preventDefault();
}
