/**
 * Questions to the explorer's server, answered in JSON, and how numbers and names are written.
 *
 * @typedef {{run: string, job: string, model: string | null, state: string, created_at: string, answers: number,
 *   failures: number, usd: number | null}} Run
 * @typedef {{store: string, runs: Run[], newest: string | null, scores: string[], kept: string[],
 *   left_out: Record<string, string>, values: Record<string, number>}} Overview
 * @typedef {Record<string, string | number | boolean | null>} Row
 * @typedef {{run: string, completion_id: number | null, prompt_id: string, prompt_index: number, sample_index: number,
 *   choice_index: number | null, model: string | null, finish_reason: string | null, error_type: string | null,
 *   label: string | null, verdict: "right" | "wrong" | null, text: string | null, confidence: number | null}} Listed
 */

import { made, visible } from "../../view/page/tokens.js";
import { SECRET } from "./entering.js";

/** An answer that says what was wrong with the question. */
export class Refused extends Error {}

/** @param {string} path @param {URLSearchParams | Record<string, string>} [params] @param {AbortSignal} [signal]
 * @returns {Promise<any>} */
export async function ask(path, params = {}, signal) {
  return read(await fetched(`/api/${path}?${new URLSearchParams(params)}`, { signal }));
}

/** @param {string} path @param {Record<string, unknown>} body @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function send(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return read(await fetched(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

/** Download the file at an address. A download sends no header: its address takes a ticket that is good once.
 * @param {string} address */
export async function download(address) {
  const { ticket } = await ask("ticket");
  const anchor = made("a");
  const to = new URL(address, location.href);
  to.searchParams.set("ticket", ticket);
  anchor.href = to.href;
  anchor.download = "";
  anchor.click();
}

/** @param {string} address @param {RequestInit} how */
async function fetched(address, how) {
  const headers = { ...how.headers, "x-logprobs-secret": localStorage.getItem(SECRET) ?? "" };
  try {
    return await fetch(address, { ...how, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused("The explorer does not answer: it was ended, or this address is of an earlier one.");
  }
}

/** @param {Response} response */
async function read(response) {
  if (response.ok) return response.json();
  const text = await response.text();
  let words = text;
  try {
    words = JSON.parse(text).error ?? text;
  } catch {
    // The gate refuses in plain text.
  }
  throw new Refused(words);
}

/** A number in few digits.
 * @param {unknown} value */
export function figure(value) {
  if (typeof value !== "number") return "";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1000
    ? Math.round(value).toLocaleString("en")
    : size < 1e-4
      ? value.toExponential(2)
      : String(Number(value.toPrecision(3)));
}

/** Columns of the store under whose name something else may be kept. */
const DERIVED = new Set([
  ...["run", "prompt", "answer", "text", "model", "label", "verdict", "finish_reason", "error_type", "confidence"],
  ...["perplexity", "mean_entropy", "mean_margin", "label_probability", "token_count", "cost_usd", "latency_s"],
]);

/** The name of a column: in words, or as it was given where it is kept with the prompts or stands in the answers.
 * @param {string} name */
export function title(name) {
  const [, source, own] = /^(kept|field)_(.*)$/s.exec(name) ?? [];
  if (own === undefined) return name.replaceAll("_", " ");
  return DERIVED.has(own) ? `${source === "kept" ? "kept" : "in the answer"}: ${visible(own)}` : visible(own);
}

/** A count with its word.
 * @param {number} count @param {string} word */
export function counted(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

/** An element with others in it.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {string} className @param {...(Node | string)} inside @returns {HTMLElementTagNameMap[Tag]} */
export function around(tag, className, ...inside) {
  const element = made(tag, className);
  element.append(...inside);
  return element;
}
