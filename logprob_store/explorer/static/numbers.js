/** How numbers are written: in digits that tell the bins of a histogram apart, whole, or as they are. */

/** The decimals that tell numbers apart which lie a tenth of a bin from each other.
 * @param {number} width of a bin */
function decimals(width) {
  return Math.min(100, Math.max(0, 1 - Math.floor(Math.log10(width))));
}

/** A number in as many digits as tell the bins of a histogram apart.
 * @param {number} value @param {number} width of a bin */
export function told(value, width) {
  return value.toLocaleString("en", { maximumFractionDigits: decimals(width) });
}

/** The next number downwards that is short to write.
 * @param {number} value @param {number} width of a bin */
export function below(value, width) {
  return shortNear(value, width, -1);
}

/** The next number upwards that is short to write.
 * @param {number} value @param {number} width of a bin */
export function above(value, width) {
  return shortNear(value, width, 1);
}

/** @param {number} value @param {number} width @param {-1 | 1} side */
function shortNear(value, width, side) {
  const digits = decimals(width);
  const unit = 10 ** -digits;
  const near = value.toFixed(digits);
  const isBeyond = side * (Number(near) - value) >= 0;
  return String(Number(isBeyond ? near : (Number(near) + side * unit).toFixed(digits)));
}

/** A number as it is where that is short, with seven digits where it is long; whole numbers, and so years, as they are.
 * @param {number} value */
export function short(value) {
  const exact = String(value);
  return Number.isInteger(value) || exact.length <= 10 ? exact : String(Number(value.toPrecision(7)));
}

/** Give an element with a number in few digits the number with all of them, which the pointer shows.
 * @param {HTMLElement} element @param {unknown} value */
export function exactBehind(element, value) {
  if (typeof value === "number" && !Number.isInteger(value)) element.title = String(value);
  return element;
}
