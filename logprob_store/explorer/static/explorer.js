/** The explorer's page: draws what its address names, and looks for what has come to the store since. */

import { made, visible } from "../../view/page/tokens.js";
import { CHANGED, changed, current, filters, go, keyOf, link, toList } from "./address.js";
import { ask, counted, Refused, send } from "./asking.js";
import { showCompared, showCompletion, showFailure, showToken } from "./details.js";
import { showList } from "./lists.js";
import { goByKey } from "./neighbours.js";
import { showSql } from "./sql.js";

/** @typedef {import("./asking.js").Overview} Overview */

const SOON_MS = 2000;
const LATER_MS = 15_000;

const main = byId("main");
/** @type {Overview} */
let overview;
let drawing = new AbortController();
let drawn = "";

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found;
}

/** Draw what the address names. */
async function draw() {
  drawing.abort();
  drawing = new AbortController();
  const { signal } = drawing;
  const params = current();
  const view = nameOfView(params);
  main.setAttribute("aria-busy", "true");
  try {
    await show(view, params, signal);
    if (signal.aborted) return;
    say("");
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) throw error;
    say(error.message);
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
  arrive(view, params);
}

/** Begin at the top, and at the heading, when another view or page is drawn.
 * @param {string} view @param {URLSearchParams} params */
function arrive(view, params) {
  drawViews(view);
  const open = [view, ...["show", "with", "at", "after", "failure", "page"].map((name) => params.get(name))].join("\n");
  if (open !== drawn) {
    if (drawn) {
      scrollTo(0, 0);
      const heading = main.querySelector("h1");
      const kept = document.activeElement !== main && main.contains(document.activeElement);
      if (heading instanceof HTMLElement && !kept) heading.focus({ preventScroll: true });
    }
    drawn = open;
  }
}

/** @param {URLSearchParams} params */
function nameOfView(params) {
  if (params.get("view") === "sql") return "sql";
  if (params.get("failure")) return "failure";
  if (!keyOf(params.get("show"))) return "list";
  if (keyOf(params.get("with"))) return "compared";
  return params.get("at") ? "token" : "completion";
}

/** @param {string} view @param {URLSearchParams} params @param {AbortSignal} signal */
async function show(view, params, signal) {
  const key = keyOf(params.get("show"));
  const other = keyOf(params.get("with"));
  if (view === "sql") return showSql(main, signal);
  if (view === "failure") return showFailure(main, params.get("failure") ?? "", signal);
  if (view === "compared" && key && other) return showCompared(main, key, other, signal);
  if (view === "token" && key) return showToken(main, key, params.get("at") ?? "", signal);
  if (view === "completion" && key) return showCompletion(main, key, signal);
  return showList(main, overview, signal, () => arrive(view, params));
}

/** @param {string} view */
function drawViews(view) {
  const links = [
    link("Answers", toList()),
    link("SQL", changed({ view: "sql", show: null, with: null, at: null, failure: null })),
  ];
  links[view === "sql" ? 1 : 0].setAttribute("aria-current", "page");
  byId("views").replaceChildren(...links);
}

/** @param {string} problem */
function say(problem) {
  const line = byId("problem");
  line.textContent = problem;
  line.hidden = !problem;
}

/** Look for what has come to the store, and offer to show it. */
async function look() {
  let wait = LATER_MS;
  if (!document.hidden) {
    try {
      const { new_answers: answers, new_runs: runs, under_way: running } = await ask("news");
      if (running.length) wait = SOON_MS;
      offer(answers, runs, running);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      say(error.message);
    }
  }
  setTimeout(look, wait);
}

/** @param {number} answers @param {string[]} runs @param {string[]} running */
function offer(answers, runs, running) {
  const place = byId("news");
  const what = [
    answers ? `${counted(answers, "new answer")}` : "",
    runs.length ? `${counted(runs.length, "new run")}` : "",
  ].filter(Boolean);
  const words = what.length ? `Show ${what.join(" and ")}` : "";
  const state = running.length ? `under way: ${running.join(", ")}` : "";
  if (place.dataset.said === words + state) return;
  place.dataset.said = words + state;
  place.replaceChildren(made("span", "muted", state));
  if (!words) return;
  const button = made("button", "primary", words);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Preparing …";
    try {
      overview = await send("refresh", {});
      warn();
      place.dataset.said = "";
      place.replaceChildren();
      await draw();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      button.disabled = false;
      button.textContent = words;
      say(error.message);
    }
  });
  place.append(" ", button);
}

/** Go past the filters: to the first answer of the list, or to the heading of another view.
 * @param {Event} event */
function skip(event) {
  event.preventDefault(); // an address with a # would be drawn anew
  const target = main.querySelector("table.rows tbody a") ?? main.querySelector("h1") ?? main;
  if (target instanceof HTMLElement) target.focus();
}

/** Say which runs could not be read. */
function warn() {
  const lines = Object.entries(overview.left_out).map(
    ([run, why]) => `Run ${visible(run)} is left out, as it is damaged: ${visible(why)}`,
  );
  const place = byId("left-out");
  place.textContent = lines.join("\n");
  place.hidden = !lines.length;
}

async function begin() {
  addEventListener("keydown", goByKey);
  byId("skip").addEventListener("click", skip);
  try {
    overview = await ask("overview");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message);
    return;
  }
  warn();
  addEventListener(CHANGED, draw);
  addEventListener("popstate", draw);
  const params = current();
  if (![...filters(params)].length && ![...params].length && overview.runs.length > 1 && overview.newest) {
    go(changed({ run: overview.newest }), { replace: true });
  } else await draw();
  look();
}

await begin();
