/**
 * Keeps the focus at the same control when a part of the page is drawn anew. A control is known by its `name`, or by its
 * `data-control` where it is no part of a form.
 */

/** Replace a part of the page, and give the focus back to the control that had it. Where that is gone, the one gets it
 * that the control named to come after it.
 * @param {() => void} replace */
export function keepFocus(replace) {
  const before = document.activeElement;
  replace();
  if (!(before instanceof HTMLElement) || before === document.body || before === document.activeElement) return;
  if (before.isConnected) before.focus({ preventScroll: true });
  else controls(before)[0]?.focus({ preventScroll: true });
}

/** Name what stands in for a control in the next drawing.
 * @template {HTMLElement} Control
 * @param {Control} element @param {string} name @param {string} orElse the control that has the focus when it is gone
 * @returns {Control} */
export function asControl(element, name, orElse = "") {
  element.dataset.control = name;
  element.dataset.orElse = orElse;
  return element;
}

/** The controls of the page that an earlier one has become, the best first.
 * @param {HTMLElement} before @returns {HTMLElement[]} */
function controls(before) {
  const names = [before.getAttribute("name"), before.dataset.control, before.dataset.orElse].filter(Boolean);
  return names.flatMap((name) => {
    const quoted = CSS.escape(name ?? "");
    const found = document.querySelector(`main [name="${quoted}"], main [data-control="${quoted}"]`);
    return found instanceof HTMLElement ? [found] : [];
  });
}
