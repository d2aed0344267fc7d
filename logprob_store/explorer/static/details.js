/**
 * One completion, one failure, two completions beside each other, and one token.
 *
 * @typedef {import("../../view/page/tokens.js").View} View
 * @typedef {import("../../view/page/tokens.js").Measure} Measure
 * @typedef {View & {before: number}} Piece
 * @typedef {import("./asking.js").Listed} Listed
 * @typedef {{role: string, text: string}} Message
 * @typedef {{question: string | null, refused: boolean, value: string | null, label: string | null,
 *   chosen: boolean | null, probability: number | null}} Option
 * @typedef {{run: string, completion_id: number, prompt_id: string, sample_index: number, choice_index: number,
 *   model: string | null, finish_reason: string | null, scores: Record<string, number>, label: string | null, verdict: "right" | "wrong" | null,
 *   kept: Record<string, string | null>, facts: Record<string, unknown>, text: string | null, refusal: string | null,
 *   tool_calls: string | null, prompt: Message[], tokens: Piece, decisions: Option[], others: Listed[]}} Completion
 * @typedef {{run: string, completion_id: number, section: string, position: number, prompt_id: string, text: string}} Place
 * @typedef {{times: number, mean_logprob: number | null, places: Place[]}} Elsewhere
 */

import { legend, made, percent, SHADINGS, showTokens, visible } from "../../view/page/tokens.js";
import { changed, current, go, link, toCompletion, toFailure, toList } from "./address.js";
import { around, ask, counted, figure, title } from "./asking.js";
import { keepFocus } from "./focus.js";
import { neighbours } from "./neighbours.js";
import { exactBehind } from "./numbers.js";
import { offerWhatIf } from "./what_if.js";

/** Tokens of an answer that the server gives at a time. */
const PIECE = 4000;
/** Characters of a heading. */
const HEADING = 200;

/** @param {HTMLElement} place @param {import("./address.js").Key} key @param {AbortSignal} signal */
export async function showCompletion(place, key, signal) {
  /** @type {[Completion, HTMLElement | null]} */
  const [one, beside] = await Promise.all([
    ask("completion", { run: key.run, id: key.id, passed_over: current().get("after") ?? "0" }, signal),
    neighbours(signal),
  ]);
  const tokens = made("div", "token-view");
  keepFocus(() =>
    place.replaceChildren(
      back(beside),
      heading(one.prompt_id, one),
      around(
        "div",
        "columns",
        around(
          "div",
          "wide",
          panel(
            "Answer",
            shadeChoice(),
            around("div", "legend-place", legend(measure())),
            tokens,
            ...pieces(one.tokens),
            ...beyondTokens(one),
          ),
          ...(one.decisions.length ? [panel("Typed questions", decisions(one.decisions))] : []),
          panel("Prompt", ...messages(one.prompt)),
          panel(`The same prompt elsewhere`, others(one.others, one)),
        ),
        around(
          "div",
          "narrow-side",
          panel("Scores", facts(one.scores)),
          ...(Object.keys(one.kept).length ? [panel("Kept with the prompt", facts(one.kept, visible))] : []),
          panel("Call", facts({ run: one.run, model: one.model, "finish reason": one.finish_reason, ...one.facts })),
        ),
      ),
    ),
  );
  if (one.tokens.sections.length) {
    showTokens(tokens, one.tokens, {
      by: measure(),
      onPick: (token, section) => go(changed({ at: `${section}/${token[0]}` })),
    });
  } else {
    tokens.replaceWith(
      made(
        "p",
        "muted",
        one.text || one.refusal || one.decisions.length ? "No tokens were returned." : "No text and no tokens.",
      ),
    );
  }
}

/** @param {HTMLElement} place @param {string} address @param {AbortSignal} signal */
export async function showFailure(place, address, signal) {
  const [, run, prompt, sample] = /^(.+)\/(\d+)\/(\d+)$/.exec(address) ?? ["", "", "0", "0"];
  const [one, beside] = await Promise.all([
    ask("failure", { run, prompt_index: prompt, sample_index: sample }, signal),
    neighbours(signal),
  ]);
  const { prompt: asked, others: same, message, ...rest } = one;
  keepFocus(() =>
    place.replaceChildren(
      back(beside),
      heading(one.prompt_id, null),
      panel("Failure", around("p", "", around("span", "tag bad", visible(one.error_type))), plain(message ?? "")),
      panel("Prompt", ...messages(asked)),
      panel("The same prompt elsewhere", others(same, null)),
      panel("Call", facts({ run, ...rest })),
    ),
  );
}

/** @param {HTMLElement} place @param {import("./address.js").Key} first @param {import("./address.js").Key} second
 * @param {AbortSignal} signal */
export async function showCompared(place, first, second, signal) {
  const both = await ask("compare", { a_run: first.run, a_id: first.id, b_run: second.run, b_id: second.id }, signal);
  /** @type {Completion[]} */
  const sides = both.sides;
  /** @type {[string, number] | null} */
  const difference = both.difference;
  const drawn = sides.map((side) => {
    const tokens = made("div", "token-view");
    const name = around("h2", "", link(`run ${visible(side.run)}`, toCompletion(side)));
    const confidence = side.scores.confidence;
    const line = made(
      "p",
      "muted",
      [
        side.model,
        confidence === undefined ? "" : `confidence ${figure(confidence)}`,
        counted(side.scores.token_count ?? 0, "token"),
      ]
        .filter(Boolean)
        .join(" · "),
    );
    return { side, tokens, box: around("section", "panel", name, line, tokens) };
  });
  keepFocus(() =>
    place.replaceChildren(
      back(),
      heading(sides[0].prompt_id, null),
      around("p", "", differs(sides, difference, both.places)),
      shadeChoice(),
      around("div", "legend-place", legend(measure())),
      around("div", "sides", ...drawn.map(({ box }) => box)),
      panel("Prompt", ...messages(sides[0].prompt)),
    ),
  );
  for (const { side, tokens } of drawn) {
    showTokens(tokens, side.tokens, { by: measure() });
    if (difference) mark(tokens, side.tokens, difference);
  }
}

/** Where two completions part, in words.
 * @param {Completion[]} sides @param {[string, number] | null} difference @param {[string, number, number][]} places */
function differs(sides, difference, places) {
  const far = places.length ? Math.max(...places.map(([, , js]) => js)) : null;
  const apart =
    far === null
      ? ""
      : ` ${difference ? "Up to there" : "At each token"} the two runs' probabilities are at most ${figure(far) === "0" ? "0.00001" : figure(far)} nats apart (Jensen-Shannon).`;
  if (!difference) return `Token by token the same.${apart}`;
  const [section, position] = difference;
  const said = sides.map(({ tokens, run }) => {
    const token = tokens.sections
      .find(({ name }) => name === section)
      ?.spans.flatMap(([, held]) => held)
      .find(([at]) => at === position);
    return token
      ? `${visible(run)} wrote “${visible(token[1])}”${token[2] === null ? "" : ` (${percent(Math.exp(token[2]))})`}`
      : `${visible(run)} ended`;
  });
  return `They part at token ${position}${section === "content" ? "" : ` of ${section}`}: ${said.join(", ")}.${apart}`;
}

/** Mark the first token that differs.
 * @param {HTMLElement} place @param {View} view @param {[string, number]} difference */
function mark(place, view, [section, position]) {
  const spans = view.sections.flatMap(({ name, spans: held }) => held.map((span) => ({ name, span })));
  const found = spans.findIndex(({ name, span }) => name === section && span[1].some(([at]) => at === position));
  place.querySelector(`[data-place="${found}"]`)?.classList.add("diverges");
}

/** @param {HTMLElement} place @param {import("./address.js").Key} key @param {string} address @param {AbortSignal} signal */
export async function showToken(place, key, address, signal) {
  const [section, position] = address.split("/");
  const one = await ask("token", { run: key.run, id: key.id, section, position: position ?? "" }, signal);
  /** @type {import("../../view/page/tokens.js").Token} */
  const token = one.tokens.sections[0].spans[0][1][0];
  const text = visible(token[1]);
  const title_ = made("h1");
  title_.tabIndex = -1;
  title_.append("Token ", quoted(beginning(text)));
  const list = made("table", "others");
  list.append(around("thead", "", row("th", "almost written", "probability", "bits")));
  const body = made("tbody");
  for (const [other, logprob, chosen] of token[6]) {
    const line = row(
      "td",
      scrolled(quoted(visible(other))),
      logprob === null ? "" : percent(Math.exp(logprob)),
      logprob === null ? "" : figure(-logprob / Math.LN2),
    );
    if (chosen) line.firstElementChild?.append(" ", made("span", "tag good", "written"));
    body.append(line);
  }
  list.append(body);
  const whatIf = made("div");
  const about = {
    probability: token[2] === null ? "no logprob" : percent(Math.exp(token[2])),
    rank: token[3],
    margin: token[4],
    "entropy (nats)": token[5],
  };
  place.replaceChildren(
    around("p", "back", link("← The completion", changed({ at: null })), " ", link("All answers", toList())),
    title_,
    around(
      "p",
      "muted",
      `token ${one.position}${one.section === "content" ? "" : ` of ${one.section}`} of prompt ${visible(one.prompt_id ?? "")}, run ${visible(one.run)}`,
    ),
    around(
      "div",
      "columns",
      around(
        "div",
        "wide",
        panel("Here", token[6].length ? list : made("p", "muted", "No alternatives were returned."), whatIf),
        ...elsewhere(one.elsewhere),
      ),
      around("div", "narrow-side", panel("Numbers", facts(about))),
    ),
  );
  const spot = { run: key.run, id: key.id, section: one.section, position: String(one.position) };
  await offerWhatIf(body, token[6], whatIf, spot, signal);
}

/** @param {{written: Elsewhere, almost: Elsewhere} | null} found */
function elsewhere(found) {
  if (!found) return [panel("Elsewhere", made("p", "muted", "The server named this token by no text."))];
  /** @type {[string, Elsewhere, string][]} */
  const kinds = [
    ["Written", found.written, "written"],
    ["Almost written", found.almost, "among the alternatives and not written"],
  ];
  return kinds.map(([name, { times, mean_logprob: mean, places }, words]) => {
    const said = times
      ? `${counted(times, "time")} ${words}${mean === null ? "" : `, at ${percent(Math.exp(mean))} (geometric mean)`}, in the runs that are open. ${places.length < times ? `${places.length} of these places:` : ""}`
      : `Never ${words} in the runs that are open.`;
    const list = made("ul", "places");
    for (const spot of places) {
      const to = changed({
        show: `${spot.run}/${spot.completion_id}`,
        with: null,
        at: `${spot.section}/${spot.position}`,
      });
      const item = around(
        "li",
        "",
        link(`${visible(spot.prompt_id ?? "")}, token ${spot.position}`, to),
        made("span", "muted", ` run ${visible(spot.run)} `),
      );
      const clamped = made("span", "clamp one", visible(spot.text ?? "").replaceAll("\n", " ↵ "));
      clamped.dir = "auto";
      item.append(clamped);
      list.append(item);
    }
    return panel(name, made("p", "", said), list);
  });
}

/** @returns {Measure} */
function measure() {
  const by = current().get("by") ?? "";
  return by in SHADINGS ? /** @type {Measure} */ (by) : "probability";
}

function shadeChoice() {
  const select = made("select");
  select.name = "by";
  for (const [name, { title: words }] of Object.entries(SHADINGS)) {
    const option = made("option", "", words);
    option.value = name;
    option.selected = name === measure();
    select.append(option);
  }
  select.addEventListener("change", () =>
    go(changed({ by: select.value === "probability" ? null : select.value }), { replace: true }),
  );
  const label = made("label", "shade", "Shade by ");
  label.append(select);
  return label;
}

/** @param {HTMLElement | null} beside links to the answers before and after */
function back(beside = null) {
  const toAll = link("← All answers", toList());
  return around("div", "back", toAll, ...(beside ? [beside] : []));
}

/** @param {string | null} prompt @param {Completion | null} one */
function heading(prompt, one) {
  const element = made("h1");
  element.tabIndex = -1;
  element.append("Prompt ", around("bdi", "", beginning(visible(prompt ?? "without an id"))));
  if (one && (one.sample_index || one.choice_index))
    element.append(made("span", "muted", ` sample ${one.sample_index}, choice ${one.choice_index}`));
  if (one?.verdict) element.append(" ", made("span", `tag ${one.verdict === "right" ? "good" : "bad"}`, one.verdict));
  if (one?.label) element.append(" ", made("span", "tag good", visible(one.label)));
  return element;
}

/** @param {string} name @param {...(Node | string)} inside */
function panel(name, ...inside) {
  return around("section", "panel", made("h2", "", name), ...inside);
}

/** @param {Record<string, unknown>} values @param {(name: string) => string} named how a name is written */
function facts(values, named = (name) => title(visible(name))) {
  const list = made("dl", "facts");
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") continue;
    list.append(
      around(
        "div",
        "",
        made("dt", "", named(name)),
        typeof value === "number"
          ? exactBehind(made("dd", "", figure(value)), value)
          : made("dd", "", visible(String(value))),
      ),
    );
  }
  return list;
}

/** @param {Message[]} prompt */
function messages(prompt) {
  if (!prompt.length) return [made("p", "muted", "The run has not kept this prompt yet.")];
  return prompt.map(({ role, text }) =>
    around("div", "message", ...(role ? [made("div", "muted", visible(role))] : []), plain(text)),
  );
}

/** @param {string} text */
function plain(text) {
  const box = made("div", "said", visible(text));
  box.dir = "auto";
  box.tabIndex = 0;
  return box;
}

/** What an answer holds beside its tokens.
 * @param {Completion} one */
function beyondTokens(one) {
  const pieces = [];
  if (one.text && !one.tokens.sections.length) pieces.push(plain(one.text));
  if (one.refusal) pieces.push(made("h3", "", "Refusal"), plain(one.refusal));
  if (one.tool_calls) pieces.push(made("h3", "", "Calls of tools"), plain(one.tool_calls));
  return pieces;
}

/** Links to the other pieces of an answer that has more tokens than a page shows.
 * @param {Piece} view */
function pieces(view) {
  if (!view.before && !view.left_out) return [];
  const shown = view.sections.flatMap(({ spans }) => spans.flatMap(([, tokens]) => tokens)).length;
  const last = view.before + shown;
  const nav = around(
    "nav",
    "paging",
    view.before
      ? link("Earlier tokens", changed({ after: String(Math.max(0, view.before - PIECE)) }))
      : made("span", "muted", "Earlier tokens"),
    made(
      "span",
      "",
      `tokens ${(view.before + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${(last + view.left_out).toLocaleString("en")}`,
    ),
    view.left_out ? link("Later tokens", changed({ after: String(last) })) : made("span", "muted", "Later tokens"),
  );
  nav.setAttribute("aria-label", "Tokens of the answer");
  return [nav];
}

/** @param {Option[]} options */
function decisions(options) {
  const element = made("table");
  element.append(around("thead", "", row("th", "question", "option", "probability")));
  const body = made("tbody");
  for (const { question, refused, value, label, chosen, probability } of options) {
    const words = refused ? "refused" : [value, label].filter(Boolean).join(" · ");
    const line = row("td", visible(question ?? ""), visible(words), probability === null ? "" : percent(probability));
    if (chosen) line.children[1].append(" ", made("span", "tag good", "chosen"));
    body.append(line);
  }
  element.append(body);
  return around("div", "scrolls", element);
}

/** @param {Listed[]} rows @param {Completion | null} one */
function others(rows, one) {
  if (!rows.length)
    return made("p", "muted", "No other answer to this prompt, in this run or in the others that are open.");
  const element = made("table", "others");
  element.append(around("thead", "", row("th", "run", "sample", "answer", "confidence", "")));
  const body = made("tbody");
  for (const other of rows) {
    const words = made("div", "clamp", visible(other.error_type ?? other.text ?? "").replaceAll("\n", " ↵ "));
    words.dir = "auto";
    const id = other.completion_id;
    const beside =
      one && id !== null
        ? link("Compare", changed({ show: `${one.run}/${one.completion_id}`, with: `${other.run}/${id}`, at: null }))
        : "";
    const to = id === null ? toFailure(other) : toCompletion({ run: other.run, completion_id: id });
    const name = link(visible(other.run), to);
    body.append(
      row("td", name, `${other.sample_index}/${other.choice_index ?? 0}`, words, figure(other.confidence), beside),
    );
  }
  element.append(body);
  const scrolls = around("div", "scrolls", element);
  scrolls.tabIndex = 0;
  scrolls.setAttribute("role", "region");
  scrolls.setAttribute("aria-label", "Other answers");
  return scrolls;
}

/** @param {"td" | "th"} tag @param {...(Node | string)} cells */
function row(tag, ...cells) {
  return around("tr", "", ...cells.map((inside) => around(tag, "", inside)));
}

/** What a heading has room for.
 * @param {string} text */
function beginning(text) {
  return text.length <= HEADING ? text : `${text.slice(0, HEADING)} … (${counted(text.length, "character")})`;
}

/** A text in a box of its own, if it is long.
 * @param {HTMLElement} text */
function scrolled(text) {
  if ((text.textContent ?? "").length <= HEADING) return text;
  const box = around("div", "said", text);
  box.tabIndex = 0;
  return box;
}

/** @param {string} text */
function quoted(text) {
  return made("code", "", text.replaceAll("\n", "\u240a").replaceAll(" ", "\u2423") || "(empty)");
}
