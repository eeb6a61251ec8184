// Building pages. Text goes in as text nodes only: reports are data, never markup.

/** A node with its text, attributes (`on*` are listeners, `false`, null and undefined are left out) and children. */
export function element(name, text, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** A button that does something and submits nothing. */
export function button(label, action, attributes = {}) {
  return element("button", label, { type: "button", onclick: action, ...attributes });
}

/** What a screen reader hears and an eye sees, in one place: the page's line of news. */
export function announce(text) {
  byId("news").textContent = text;
}

let toasting = null; // its node: a dialog that is emptied takes it along
let shown;

/** A short word that goes away by itself, about something that the reader just did; over a dialog where one is open. */
export function toast(text) {
  const place = (toasting ??= byId("toast"));
  (document.querySelector("dialog[open]") ?? document.body).append(place);
  place.textContent = text;
  clearTimeout(shown);
  shown = setTimeout(() => (place.textContent = ""), 4000);
}
