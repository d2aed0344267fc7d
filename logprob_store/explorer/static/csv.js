/** Rows as CSV, which a spreadsheet opens without carrying out what stands in them. */

/** How a formula begins in a spreadsheet, also with full-width signs, or what is made of one here: as in Python's
 * `spreadsheet_text.py`. */
const FORMULA = /^('*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])/;

/** @typedef {string | number | boolean | null} Value */

/** Numbers are written with all their digits, null as nothing; a text like a formula has an apostrophe before it.
 * @param {string[]} columns @param {string[]} kinds of the columns: number or text @param {Value[][]} rows */
export function asCsv(columns, kinds, rows) {
  const lines = rows.map((row) => row.map((value, place) => cell(value, kinds[place] === "number")));
  return [columns.map((name) => cell(name, false)), ...lines].map((line) => `${line.join(",")}\n`).join("");
}

/** @param {Value} value @param {boolean} isNumber */
function cell(value, isNumber) {
  if (value === null) return "";
  const text = String(value);
  if (isNumber) return text;
  const harmless = text.replace(FORMULA, "'$1");
  return harmless === "" || /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** Let the browser save a text as a file.
 * @param {string} name @param {string} text */
export function save(name, text) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
}
