/**
 * The address of the page, which holds all that it shows: filters, order, page, and the completion that is open. So the
 * back button works, and an address can be kept.
 *
 * @typedef {{run: string, id: string}} Key
 * @typedef {Record<string, string | string[] | null>} Changes
 */

/** What of an address says which view is open, and nothing of the list. */
const VIEW = ["view", "show", "with", "at", "after", "failure", "query", "by"];
/** What of an address says which rows of the selection are on a page. */
const PAGING = ["sort", "order", "page", "size"];
/** Told when the address has changed. */
export const CHANGED = "addresschange";

/** @returns {URLSearchParams} */
export function current() {
  return new URLSearchParams(location.search);
}

/** The address with some parameters set, or taken out where they are null.
 * @param {Changes} changes @param {URLSearchParams} [from] */
export function changed(changes, from = current()) {
  const params = new URLSearchParams(from);
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    for (const one of value === null ? [] : [value].flat()) params.append(name, one);
  }
  return params;
}

/** Go to an address of the page.
 * @param {URLSearchParams} params @param {{replace?: boolean}} [how] */
export function go(params, { replace = false } = {}) {
  const address = `${location.pathname}?${params}`;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new Event(CHANGED));
}

/** The parameters of the list: filters, order and page.
 * @param {URLSearchParams} [params] */
export function listed(params = current()) {
  const kept = new URLSearchParams(params);
  for (const name of VIEW) kept.delete(name);
  return kept;
}

/** The filters alone.
 * @param {URLSearchParams} [params] */
export function filters(params = current()) {
  const kept = listed(params);
  for (const name of PAGING) kept.delete(name);
  return kept;
}

/** A completion in an address: its run and its id.
 * @param {string | null} text @returns {Key | null} */
export function keyOf(text) {
  const found = /^(.+)\/(\d+)$/.exec(text ?? "");
  return found ? { run: found[1], id: found[2] } : null;
}

/** A link to another view of the page.
 * @param {string} text @param {URLSearchParams} params @param {string} [className] */
export function link(text, params, className = "") {
  const element = document.createElement("a");
  element.href = `?${params}`;
  element.textContent = text;
  if (className) element.className = className;
  element.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
    event.preventDefault();
    go(params);
  });
  return element;
}

/** The address of one completion, with the list behind it kept.
 * @param {{run: string, completion_id: number | string}} row */
export function toCompletion(row) {
  return changed({
    view: null,
    show: `${row.run}/${row.completion_id}`,
    with: null,
    at: null,
    after: null,
    failure: null,
  });
}

/** The address of one failure.
 * @param {{run: string, prompt_index: number, sample_index: number}} row */
export function toFailure(row) {
  const failure = `${row.run}/${row.prompt_index}/${row.sample_index}`;
  return changed({ view: null, show: null, with: null, at: null, after: null, failure });
}

/** The address of the list, which keeps the shading for the next answer. */
export function toList() {
  return changed({ by: current().get("by") }, listed());
}
