/**
 * What would have followed another token: a button beside each alternative, and the answer beside the original.
 *
 * @typedef {import("../../view/page/tokens.js").View} View
 * @typedef {{rank: number, refused: string | null, most_usd: number | null}} Offered
 * @typedef {{server: string, model: string, note: string | null, alternatives: Offered[]}} Offer
 * @typedef {{position: number, sides: View[], finish_reason: string | null, source: string,
 *   cost_usd: number | null, request_key: string}} Followed
 */

import { made, showTokens, visible } from "../../view/page/tokens.js";
import { around, ask, Refused, send } from "./asking.js";

const GO_ON = "Go on";

/** Offer to go on from the alternatives of a token, where a job was named to ask by.
 * @param {HTMLTableSectionElement} rows of the alternatives, one each
 * @param {import("../../view/page/tokens.js").Alternative[]} alternatives @param {HTMLElement} place for what is answered
 * @param {{run: string, id: string, section: string, position: string}} token @param {AbortSignal} signal */
export async function offerWhatIf(rows, alternatives, place, token, signal) {
  /** @type {Offer | null} */
  const offer = await ask("what_if", token, signal);
  if (!offer) return;
  const state = made("p", "muted");
  state.setAttribute("role", "status");
  const problem = made("p", "problem");
  problem.setAttribute("role", "alert");
  problem.hidden = true;
  const answer = made("div");
  rows.parentElement?.querySelector("thead tr")?.append(made("th", "", "what if"));
  /** @type {HTMLButtonElement[]} */
  const buttons = [];
  /** @type {Set<string>} */
  const refusals = new Set();
  for (const [index, { rank, refused, most_usd: most }] of offer.alternatives.entries()) {
    const cell = made("td");
    const text = rows.rows[index].querySelector("code")?.textContent ?? "";
    rows.rows[index].append(cell);
    if (alternatives[index][2]) continue;
    if (refused !== null) {
      refusals.add(refused);
      cell.append(made("span", "muted", "not from here"));
      continue;
    }
    const button = made("button", "", GO_ON);
    button.setAttribute("aria-label", `${GO_ON} from ${text}`);
    button.addEventListener("click", async () => {
      for (const one of buttons) one.disabled = true;
      button.textContent = "Asking …";
      state.textContent = `Asking ${visible(offer.model)} …`;
      problem.hidden = true;
      try {
        showFollowed(answer, text, await send("go_on", { ...token, rank: String(rank) }));
        state.textContent = "Answered.";
        answer.scrollIntoView({ block: "nearest" });
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        problem.textContent = visible(error.message);
        problem.hidden = false;
        state.textContent = "";
      } finally {
        for (const one of buttons) one.disabled = false;
        button.textContent = GO_ON;
        button.focus({ preventScroll: true });
      }
    });
    buttons.push(button);
    cell.append(button, ...(most === null ? [] : [made("span", "muted", ` at most ${dollars(most)}`)]));
  }
  const words = [...refusals].map((why) => `Not from here: ${visible(why)}.`);
  if (buttons.length) {
    const asks = `“${GO_ON}” asks ${visible(offer.model)} at ${visible(offer.server)} by one call what would have followed.`;
    words.unshift(asks, ...(offer.note ? [visible(offer.note)] : []));
  }
  place.replaceChildren(made("p", "muted", words.join(" ")), state, problem, answer);
}

/** Show what followed, beside what was written.
 * @param {HTMLElement} place @param {string} text of the alternative @param {Followed} followed */
function showFollowed(place, text, followed) {
  const instead = made("code", "", text);
  instead.dir = "auto";
  const names = [["As it was written"], ["With ", instead]];
  const boxes = followed.sides.map((view, index) => {
    const tokens = made("div", "token-view");
    const box = around("section", "panel", around("h3", "", ...names[index]), tokens);
    showTokens(tokens, view);
    markShared(tokens, view, followed.position);
    return box;
  });
  const cost = followed.cost_usd === null ? "" : ` for ${dollars(followed.cost_usd)}`;
  const source = followed.source === "cache" ? "from the cache, without a call" : `from the server${cost}`;
  const line = made("p", "muted");
  line.append(
    `${source[0].toUpperCase()}${source.slice(1)}. Ended by ${visible(followed.finish_reason ?? "nothing said")}. Key in the cache: `,
    made("code", "", followed.request_key),
  );
  const first = followed.sides[0].sections[0]?.spans[0]?.[1][0][0] ?? 0;
  if (first) line.append(`. Of what both share the last ${followed.position - first} tokens are shown.`);
  place.replaceChildren(around("div", "sides", ...boxes), line);
}

/** Grey what two answers share, and mark the token in which they part.
 * @param {HTMLElement} place @param {View} view @param {number} position */
function markShared(place, view, position) {
  const spans = view.sections.flatMap(({ spans: held }) => held);
  for (const [index, [, tokens]] of spans.entries()) {
    const element = place.querySelector(`[data-place="${index}"]`);
    if (tokens.every(([at]) => at < position)) element?.classList.add("shared");
    if (tokens.some(([at]) => at === position)) element?.classList.add("diverges");
  }
}

/** An amount of money.
 * @param {number} usd */
function dollars(usd) {
  return `$${usd >= 0.01 ? usd.toFixed(2) : usd === 0 ? "0" : Number(usd.toPrecision(2)).toFixed(10).replace(/0+$/, "")}`;
}
