/**
 * A completion, token by token: each span shaded by how unsure the model was, its alternatives on hover, by keyboard
 * and by touch. Text of models is only ever put in as text.
 *
 * @typedef {[text: string, logprob: number | null, chosen: number]} Alternative
 * @typedef {[position: number, text: string, logprob: number | null, rank: number | null, margin: number | null,
 *   entropy: number | null, alternatives: Alternative[]]} Token
 * @typedef {[text: string, tokens: Token[]]} Span
 * @typedef {{sections: {name: string, spans: Span[]}[], left_out: number}} View
 * @typedef {"probability" | "surprisal" | "entropy" | "margin" | "rank"} Measure
 * @typedef {{title: string, levels: string[], level: (span: Span) => number | null}} Shading
 * @typedef {{by?: Measure, onPick?: (token: Token, section: string) => void}} Options
 */

const UNKNOWN = "no logprob";

/** How surely each measure counts, from level 0 (sure) to level 5; null where it is not known.
 * @type {Record<Measure, Shading>} */
export const SHADINGS = {
  probability: {
    title: "Probability",
    levels: ["90 % and more", "70 %", "50 %", "30 %", "10 %", "less"],
    level: (span) => below(probability(span), [0.9, 0.7, 0.5, 0.3, 0.1]),
  },
  surprisal: {
    title: "Surprisal",
    levels: ["under 0.5 bits", "1", "2", "4", "8", "more"],
    level: (span) => above(bits(probability(span)), [0.5, 1, 2, 4, 8]),
  },
  entropy: {
    title: "Entropy",
    levels: ["under 0.2 nats", "0.5", "1", "1.5", "2", "more"],
    level: (span) => above(worst(span, 5, Math.max), [0.2, 0.5, 1, 1.5, 2]),
  },
  margin: {
    title: "Margin",
    levels: ["0.8 and more", "0.6", "0.4", "0.2", "0.1", "less"],
    level: (span) => below(worst(span, 4, Math.min), [0.8, 0.6, 0.4, 0.2, 0.1]),
  },
  rank: {
    title: "Rank",
    levels: ["the likeliest", "second", "third", "to 5", "to 10", "beyond"],
    level: (span) => above(worst(span, 3, Math.max), [1.5, 2.5, 3.5, 5.5, 10.5]),
  },
};

/** The probability of a span: the product over its tokens.
 * @param {Span} span @returns {number | null} */
function probability([, tokens]) {
  let sum = 0;
  for (const token of tokens) {
    if (token[2] === null) return null;
    sum += token[2];
  }
  return Math.exp(sum);
}

/** @param {number | null} share @returns {number | null} */
function bits(share) {
  return share === null ? null : -Math.log2(share);
}

/** The least sure value of a span's tokens.
 * @param {Span} span @param {3 | 4 | 5} column @param {(...values: number[]) => number} pick
 * @returns {number | null} */
function worst([, tokens], column, pick) {
  const known = tokens.map((token) => token[column]).filter((value) => value !== null);
  return known.length ? pick(...known) : null;
}

/** @param {number | null} value @param {number[]} limits, falling @returns {number | null} */
function below(value, limits) {
  return value === null ? null : limits.filter((limit) => value < limit).length;
}

/** @param {number | null} value @param {number[]} limits, rising @returns {number | null} */
function above(value, limits) {
  return value === null ? null : limits.filter((limit) => value > limit).length;
}

/** Stays as it is though it is not seen: line ends, tabs, what joins letters and emoji or lets a line break, marks that
 * say a direction without overriding another, signs of Arabic numbers. */
const HARMLESS = /[\n\t\u200b-\u200f\u061c\u0600-\u0605\u06dd\u08e2]/;

/** The text with a symbol of the same length for each character that a browser would obey or that hides: controls,
 * overrides of the direction, half characters, letters of flags outside of a flag.
 * @param {string} text */
export function visible(text) {
  return text.replace(/\u{1f3f4}[\u{e0020}-\u{e007e}]+\u{e007f}|[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (char) => {
    if (char.length > 2 || HARMLESS.test(char)) return char;
    const code = char.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd".repeat(char.length);
  });
}

/** An element with text in it.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {string} [className] @param {string} [text] @returns {HTMLElementTagNameMap[Tag]} */
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** A share of 1 as a percentage of three digits.
 * @param {number} share */
export function percent(share) {
  const value = 100 * share;
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.001 %";
  return `${value >= 99.95 && value < 100 ? value.toFixed(3) : value.toPrecision(3)} %`;
}

/** The list of levels of a measure, each in its shade.
 * @param {Measure} by */
export function legend(by) {
  const list = made("ul", "legend");
  list.setAttribute("aria-label", `Shades of ${SHADINGS[by].title.toLowerCase()}`);
  for (const [level, words] of SHADINGS[by].levels.entries()) list.append(made("li", `t l${level}`, words));
  list.append(made("li", "t unknown", UNKNOWN));
  return list;
}

/**
 * Draw a completion into an element.
 * @param {HTMLElement} element @param {View} view @param {Options} [options]
 */
export function showTokens(element, view, { by = "probability", onPick } = {}) {
  const box = made("div", "tokens");
  box.dir = "auto";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute(
    "aria-label",
    "The answer, token by token. Left and right go from token to token, up and down to those under 50 %.",
  );
  /** @type {{element: HTMLElement, span: Span, section: string}[]} */
  const places = [];
  for (const { name, spans } of view.sections) {
    if (name !== "content" || view.sections.length > 1) box.append(made("span", "section", name));
    for (const span of spans) {
      const drawn = made("span", "", visible(span[0]));
      if (span[0].includes("\n")) drawn.classList.add("line-end");
      if (!span[0].trim()) drawn.classList.add("blank");
      drawn.dataset.place = String(places.length);
      places.push({ element: drawn, span, section: name });
      box.append(drawn);
    }
  }
  if (!places.length) box.append(made("span", "muted", "no tokens"));
  if (view.left_out) box.append(made("span", "muted", ` … ${view.left_out.toLocaleString("en")} tokens more`));
  const panel = made("div", "token-panel");
  panel.hidden = true;
  const said = made("div", "only-said");
  said.setAttribute("aria-live", "polite");
  element.replaceChildren(box, panel, said);
  shade(box, places, by);

  let current = -1;
  let pinned = false;
  /** @param {number} place @param {boolean} pin */
  const show = (place, pin) => {
    places[current]?.element.classList.remove("current");
    current = place;
    pinned = pin;
    const { element: drawn, span, section } = places[place];
    drawn.classList.add("current");
    panel.replaceChildren(...span[1].map((token) => tokenCard(token, section, onPick)));
    panel.hidden = false;
    document.addEventListener("keydown", closeFromAfar);
    panel.classList.toggle("pinned", pin);
    beside(panel, drawn, element);
  };
  /** The panel under the mouse is closed by Escape wherever the focus is. @param {KeyboardEvent} event */
  const closeFromAfar = (event) => {
    if (event.key === "Escape" && !(event.target instanceof Node && element.contains(event.target))) hide();
  };
  const hide = () => {
    places[current]?.element.classList.remove("current");
    document.removeEventListener("keydown", closeFromAfar);
    panel.hidden = true;
    pinned = false;
  };
  /** @param {Event} event @returns {number} */
  const placeOf = (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-place]") : null;
    return target instanceof HTMLElement && box.contains(target) ? Number(target.dataset.place) : -1;
  };
  box.addEventListener("pointerover", (event) => {
    const place = placeOf(event);
    if (event.pointerType === "mouse" && place >= 0 && !pinned && !event.buttons) show(place, false);
  });
  box.addEventListener("pointerleave", () => pinned || document.activeElement === box || hide());
  box.addEventListener("click", (event) => {
    const place = placeOf(event);
    if (!document.getSelection()?.isCollapsed) return;
    if (place < 0 || (pinned && place === current)) hide();
    else show(place, true);
  });
  box.addEventListener("focusout", (event) => {
    if (!(event.relatedTarget instanceof Node && element.contains(event.relatedTarget))) hide();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) {
      hide();
      box.focus();
      event.stopPropagation();
      return;
    }
    if (event.target !== box || event.ctrlKey || event.metaKey || event.altKey || !places.length) return;
    const next = stepped(event.key, current, places);
    if (next === null) return;
    event.preventDefault();
    show(next, event.key === "Enter" || event.key === " ");
    said.textContent = words(places[next].span);
    places[next].element.scrollIntoView({ block: "nearest" });
  });
  box.addEventListener("copy", (event) => {
    const text = selectedText(element, places);
    if (text === null || !event.clipboardData) return;
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  });
}

/** Shade drawn tokens by another measure.
 * @param {HTMLElement} box @param {{element: HTMLElement, span: Span}[]} places @param {Measure} by */
function shade(box, places, by) {
  box.dataset.by = by;
  for (const { element, span } of places) {
    const level = SHADINGS[by].level(span);
    const kept = ["line-end", "blank", "current"].filter((name) => element.classList.contains(name));
    element.className = ["t", level === null ? "unknown" : `l${level}`, ...kept].join(" ");
  }
}

/** The place that a key goes to; null where the key means nothing.
 * @param {string} key @param {number} current @param {{span: Span}[]} places @returns {number | null} */
function stepped(key, current, places) {
  const last = places.length - 1;
  /** @param {number} step */
  const unsure = (step) => {
    for (let place = current + step; place >= 0 && place <= last; place += step) {
      if ((probability(places[place].span) ?? 1) < 0.5) return place;
    }
    return Math.max(current, 0);
  };
  switch (key) {
    case "ArrowRight":
      return Math.min(current + 1, last);
    case "ArrowLeft":
      return Math.max(current - 1, 0);
    case "ArrowDown":
      return unsure(1);
    case "ArrowUp":
      return unsure(-1);
    case "Home":
      return 0;
    case "End":
      return last;
    case "Enter":
    case " ":
      return Math.max(current, 0);
    default:
      return null;
  }
}

/** What a screen reader says of a span.
 * @param {Span} span */
function words(span) {
  const share = probability(span);
  const others = span[1].length === 1 ? span[1][0][6].filter(([, , chosen]) => !chosen).slice(0, 3) : [];
  const listed = others.map(
    ([text, logprob]) => `${visible(text)} ${logprob === null ? "" : percent(Math.exp(logprob))}`,
  );
  return `${visible(span[0])}: ${share === null ? UNKNOWN : percent(share)}${listed.length ? `; else ${listed.join(", ")}` : ""}`;
}

/** One token with its numbers and alternatives.
 * @param {Token} token @param {string} section @param {Options["onPick"]} onPick */
function tokenCard(token, section, onPick) {
  const [position, text, logprob, rank, margin, entropy, alternatives] = token;
  const card = made("div", "token-card");
  const head = made("div", "token-head");
  head.append(quoted(text), made("span", "muted", `token ${position}${section === "content" ? "" : ` of ${section}`}`));
  card.append(head);
  const numbers = [
    logprob === null ? UNKNOWN : `p ${percent(Math.exp(logprob))}`,
    logprob === null ? "" : `${(-logprob / Math.LN2).toPrecision(3)} bits`,
    rank === null ? "" : `rank ${rank}`,
    margin === null ? "" : `margin ${margin.toFixed(3)}`,
    entropy === null ? "" : `entropy ${entropy.toFixed(3)}`,
  ];
  card.append(made("div", "numbers", numbers.filter(Boolean).join(" · ")));
  const list = made("ol", "alternatives");
  for (const [other, value, chosen] of alternatives) {
    const row = made("li", chosen ? "chosen" : "");
    const share = value === null ? null : Math.exp(value);
    const bar = made("span", "bar");
    bar.style.setProperty("--share", String(share ?? 0));
    row.append(bar, quoted(other), made("span", "share", share === null ? UNKNOWN : percent(share)));
    if (chosen) row.append(made("span", "muted", "written"));
    list.append(row);
  }
  card.append(alternatives.length ? list : made("div", "muted", "no alternatives were returned"));
  if (onPick) {
    const more = made("button", "", "This token elsewhere");
    more.addEventListener("click", () => onPick(token, section));
    card.append(more);
  }
  return card;
}

/** A token's text with its white space to be seen; one that has nothing to be seen by the numbers of its characters.
 * @param {string} text */
function quoted(text) {
  let shown = visible(text).replaceAll("\n", "\u240a").replaceAll("\t", "\u2409").replaceAll(" ", "\u2423");
  if (/^\p{Cf}+$/u.test(shown)) shown = [...shown].map((char) => `U+${hexadecimal(char)}`).join(" ");
  const code = made("code", "", shown || "(empty)");
  code.dir = "auto";
  return code;
}

/** @param {string} char */
function hexadecimal(char) {
  return (char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
}

/** Put the panel under a token, within the width of the element.
 * @param {HTMLElement} panel @param {HTMLElement} token @param {HTMLElement} element */
function beside(panel, token, element) {
  const rows = token.getClientRects();
  const place = rows[0] ?? token.getBoundingClientRect();
  const around = element.getBoundingClientRect();
  const left = Math.min(place.left - around.left, around.width - panel.offsetWidth);
  panel.style.setProperty("--left", `${Math.max(0, left)}px`);
  panel.style.setProperty("--top", `${(rows[rows.length - 1] ?? place).bottom - around.top + 4}px`);
}

/** The text that is selected, as the model wrote it; null where the selection goes beyond the completion.
 * @param {HTMLElement} box @param {{element: HTMLElement, span: Span}[]} places @returns {string | null} */
function selectedText(box, places) {
  const selection = document.getSelection();
  if (!selection?.rangeCount) return null;
  const range = selection.getRangeAt(0);
  const [before, after] = [document.createRange(), document.createRange()];
  before.setStart(range.startContainer, range.startOffset);
  before.setEndBefore(box);
  after.setEnd(range.endContainer, range.endOffset);
  after.setStartAfter(box);
  if (before.toString().trim() || after.toString().trim()) return null;
  let text = "";
  for (const { element, span } of places) {
    if (!range.intersectsNode(element)) continue;
    const from = element.contains(range.startContainer) ? range.startOffset : 0;
    const to =
      element.contains(range.endContainer) && range.endContainer !== element ? range.endOffset : span[0].length;
    text += span[0].slice(from, to);
  }
  return text;
}
