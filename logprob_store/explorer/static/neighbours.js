/**
 * The answers before and after the open one in the list that it was opened from, by links and by the keys [ and ].
 *
 * @typedef {import("./lists.js").Page} Page
 * @typedef {Page["rows"][0]} Row
 */

import { made } from "../../view/page/tokens.js";
import { current, link, listed, toCompletion, toFailure } from "./address.js";
import { around, ask, Refused } from "./asking.js";
import { asControl } from "./focus.js";

const PREVIOUS = "Previous answer";
const NEXT = "Next answer";

/** Links to the answers before and after the one that the address opens; null where its page of the list has it not.
 * @param {AbortSignal} signal @returns {Promise<HTMLElement | null>} */
export async function neighbours(signal) {
  const here = await pageOf(null, signal);
  const place = here?.rows.findIndex(isOpen) ?? -1;
  if (!here || place < 0) return null;
  const isLast = place === here.rows.length - 1;
  const [before, after] = await Promise.all([
    place ? { page: here, row: here.rows[place - 1] } : beyond(here, -1, signal),
    isLast ? beyond(here, 1, signal) : { page: here, row: here.rows[place + 1] },
  ]);
  const size = Number(current().get("size") ?? 50);
  const number = (here.page - 1) * size + place + 1;
  const nav = around(
    "nav",
    "neighbours",
    to(PREVIOUS, before, NEXT),
    made("span", "", `${number.toLocaleString("en")} of ${here.total.toLocaleString("en")}`),
    to(NEXT, after, PREVIOUS),
    made("span", "muted", "keys [ and ]"),
  );
  nav.setAttribute("aria-label", "Answers of the list");
  return nav;
}

/** Go to the answer before by [, to the one after by ], wherever nothing is typed.
 * @param {KeyboardEvent} event */
export function goByKey(event) {
  const name = { "[": PREVIOUS, "]": NEXT }[event.key];
  const isTyped = event.target instanceof Element && event.target.closest("input, textarea, select");
  if (!name || isTyped || event.metaKey || (event.ctrlKey && !event.altKey)) return; // AltGr is Ctrl and Alt
  const found = document.querySelector(`[data-control="${name}"]`);
  if (found instanceof HTMLElement) found.click();
}

/** @param {number | null} number of the page; null for the one in the address @param {AbortSignal} signal
 * @returns {Promise<Page | null>} */
async function pageOf(number, signal) {
  const params = listed();
  if (number !== null) params.set("page", String(number));
  try {
    return await ask("rows", params, signal);
  } catch (error) {
    if (error instanceof Refused) return null; // the answer itself can be shown
    throw error;
  }
}

/** The row next to a page of the list: the last one of the page before, or the first one of the page after.
 * @param {Page} here @param {-1 | 1} step @param {AbortSignal} signal */
async function beyond(here, step, signal) {
  const number = here.page + step;
  const page = number >= 1 && number <= here.pages ? await pageOf(number, signal) : null;
  const row = page?.rows.at(step === 1 ? 0 : -1);
  return page && row ? { page, row } : null;
}

/** @param {string} name @param {{page: Page, row: Row} | null} found @param {string} orElse */
function to(name, found, orElse) {
  if (!found) return made("span", "muted", name);
  const params = addressOf(found.row);
  if (found.page.page === 1) params.delete("page");
  else params.set("page", String(found.page.page));
  return asControl(link(name, params), name, orElse);
}

/** @param {Row} row */
function addressOf(row) {
  return row.completion_id === null ? toFailure(row) : toCompletion({ run: row.run, completion_id: row.completion_id });
}

/** @param {Row} row */
function isOpen(row) {
  const address = addressOf(row);
  const open = current();
  return ["show", "failure"].every((name) => address.get(name) === open.get(name));
}
