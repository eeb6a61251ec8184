// A report with the sentences that match marked, each of which shows its place on the film.

import { element } from "./elements.js";

const SENTENCE = /[^\n]*?(?:[.!?](?=\s+[A-Z(])|\n|$)/gy;

/** [start, end) of the sentences of a text, empty ones left out. */
export function sentencesOf(text, evidence) {
  const marked = evidence.filter(({ start, end }) => start !== null && end !== null).sort((a, b) => a.start - b.start);
  const spans = [];
  let at = 0;
  for (const each of marked) {
    if (each.start < at) continue;
    spans.push(...plain(text, at, each.start), { start: each.start, end: each.end, evidence: each });
    at = each.end;
  }
  return [...spans, ...plain(text, at, text.length)];
}

function plain(text, from, to) {
  const part = text.slice(from, to);
  const spans = [];
  SENTENCE.lastIndex = 0;
  while (SENTENCE.lastIndex < part.length) {
    const begin = SENTENCE.lastIndex;
    const found = SENTENCE.exec(part);
    if (!found || found[0].length === 0) break;
    spans.push({ start: from + begin, end: from + begin + found[0].length });
  }
  return spans;
}

/**
 * @param report `report` of a hit. @param evidence `evidence` of a hit.
 * @param look `look(phrase, pinned)` shows a phrase on the film, `look(null)` takes it away. Null where there is no film.
 */
export function reportText(report, evidence, look) {
  const box = element("div", undefined, { class: "report", role: "group", "aria-label": "Report; arrow keys go from sentence to sentence" });
  const nodes = [];
  for (const span of sentencesOf(report.text, evidence)) {
    const text = report.text.slice(span.start, span.end);
    if (!/[\p{L}]{2}/u.test(text) || /^[A-Z ]+:?\s*$/.test(text)) {
      box.append(text); // spaces, a heading
      continue;
    }
    const node = sentence(text, span.evidence, look);
    nodes.push(node);
    box.append(node, /\s$/.test(text) ? "" : "");
  }
  roving(box, nodes);
  return box;
}

function sentence(text, evidence, look) {
  const phrase = text.trim();
  const node = element(evidence ? "mark" : "span", text, { class: "sentence", tabindex: -1 });
  if (evidence) node.title = `Near to the query: cosine ${evidence.score.toFixed(2)}${denial(evidence.labels)}`;
  if (!look) return node;
  node.setAttribute("role", "button");
  node.setAttribute("aria-pressed", "false");
  const pin = () => {
    const pinned = node.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll('.sentence[aria-pressed="true"]')) other.setAttribute("aria-pressed", "false");
    node.setAttribute("aria-pressed", String(pinned));
    look(pinned ? phrase : null, pinned);
  };
  node.addEventListener("mouseenter", () => look(phrase));
  node.addEventListener("mouseleave", () => look(null));
  node.addEventListener("focus", () => look(phrase));
  node.addEventListener("blur", () => look(null));
  node.addEventListener("click", pin);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    pin();
  });
  return node;
}

function denial(labels) {
  const denied = labels.filter(({ assertion }) => assertion === "absent").map(({ finding }) => finding);
  return denied.length ? `; it denies ${denied.join(", ")}` : "";
}

/** One stop of the tab key for a report; arrow keys go on from there. */
function roving(box, nodes) {
  if (!nodes.length) return;
  (nodes.find((node) => node.tagName === "MARK") ?? nodes[0]).tabIndex = 0;
  box.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const at = nodes.indexOf(event.target);
    const next = step && at >= 0 ? nodes[at + step] : null;
    if (!next) return;
    event.preventDefault();
    for (const node of nodes) node.tabIndex = node === next ? 0 : -1;
    next.focus();
  });
}
