/**
 * Questions in SQL, answered as a table.
 *
 * @typedef {{columns: string[], kinds: string[], rows: (string | number | boolean | null)[][], more: boolean, error?: string}} Answer
 */

import { made, visible } from "../../view/page/tokens.js";
import { changed, current, go, link, toCompletion } from "./address.js";
import { around, counted, figure, Refused, send } from "./asking.js";

const EXAMPLES = [
  "select label, count(*) as answers, avg(confidence) as confidence from scores group by label order by answers desc",
  "select run, finish_reason, count(*) as answers, sum(cost_usd) as usd from scores group by run, finish_reason",
  "select token, count(*) as times, avg(logprob) as logprob from tokens group by token having count(*) > 5 order by logprob limit 50",
];
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
    const answer = /** @type {Answer} */ (await send("sql", { query }));
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
function table({ columns, kinds, rows, more }, took) {
  const said = `${more ? `the first ${counted(rows.length, "row")}, there are more` : counted(rows.length, "row")}, ${(took / 1000).toFixed(2)} s`;
  const element = made("table", "sql-rows");
  const head = made("tr");
  columns.forEach((name, place) => {
    const cell = made("th", kinds[place] === "number" ? "number" : "", visible(name));
    cell.scope = "col";
    head.append(cell);
  });
  const run = columns.indexOf("run");
  const id = columns.indexOf("completion_id");
  const body = made("tbody");
  for (const row of rows) {
    const line = made("tr");
    row.forEach((value, place) => {
      const isLong = typeof value === "string" && value.length > 40;
      const cell = made("td", kinds[place] === "number" ? "number" : isLong ? "long" : "");
      if (place === id && run >= 0 && value !== null)
        cell.append(link(String(value), toCompletion({ run: String(row[run]), completion_id: String(value) })));
      else if (value === null) cell.append(made("span", "muted", "null"));
      else
        cell.textContent =
          typeof value === "number" && !columns[place].endsWith("_id") ? figure(value) : visible(String(value));
      line.append(cell);
    });
    body.append(line);
  }
  element.append(around("thead", "", head), body);
  const scrolls = around("div", "scrolls", element);
  scrolls.tabIndex = 0;
  scrolls.setAttribute("role", "region");
  scrolls.setAttribute("aria-label", "Rows of the query");
  return [around("section", "panel", made("p", "muted", said), scrolls)];
}
