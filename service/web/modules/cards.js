// The dialogs: what the encoders are, and what the keys do.

import { button, byId, element } from "./elements.js";

export function openCard(model) {
  const { provenance } = model;
  const facts = [
    ["Name", provenance.name],
    ["Trained on", provenance.trained_on],
    ["Licence", provenance.license],
    ["Use", provenance.notice],
    ["Fingerprint", model.fingerprint],
    ["Findings with built-in phrases", model.findings.join(", ")],
    ["Reads", `one frontal and one lateral image of a study and of its prior; texts of up to ${model.context_length} tokens`],
  ];
  const list = element("dl");
  for (const [name, text] of facts) list.append(element("dt", name), element("dd", text));
  open("card", "Model card", [
    list,
    element("p", "Scores order studies of this archive. They are no probabilities of disease, and the encoders may be wrong with confidence. A radiologist reads the images themselves."),
  ]);
}

const KEYS = [
  ["/", "to the phrase"],
  ["u", "choose files"],
  ["j, k", "next, previous hit"],
  ["Enter, in a hit", "side by side"],
  ["Arrow keys, in a report", "from sentence to sentence, each shown on the film"],
  ["Enter, on a sentence", "keep its place on the film"],
];
const FILM_KEYS = [
  ["i", "invert"],
  ["[ ]", "narrower, wider window"],
  [", .", "lower, higher level"],
  ["+ −, arrows", "zoom, move"],
  ["r", "as it was"],
  ["drag", "window and level; moves the film when zoomed (with Shift: window and level)"],
];

const OFF = "shortcuts-off";

/** Whether single keys act anywhere on the page; who dictates turns them off (WCAG 2.1.4). */
export const shortcutsAreOn = () => localStorage.getItem(OFF) === null;

export function openHelp() {
  const tick = element("input", undefined, { type: "checkbox", checked: shortcutsAreOn() });
  tick.addEventListener("change", () => (tick.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  const choice = element("label", undefined, { class: "tick" }, tick, "The first three act anywhere on the page");
  open("help", "Shortcuts", [keys(KEYS), choice, element("h3", "On a film"), keys(FILM_KEYS)]);
}

function keys(rows) {
  const list = element("dl", undefined, { class: "keys" });
  for (const [key, what] of rows) list.append(element("dt", undefined, {}, element("kbd", key)), element("dd", what));
  return list;
}

function open(id, title, nodes) {
  const dialog = byId(id);
  const close = button("Close", () => dialog.close(), { class: "second" });
  dialog.replaceChildren(element("div", undefined, { class: "row" }, element("h2", title, { id: `${id}-title`, class: "grow" }), close), ...nodes);
  dialog.showModal();
}
