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
 * @param looking shows sentences on the film (`Looking`); null where there is no film.
 */
export function reportText(report, evidence, looking) {
  const box = element("div", undefined, { class: "report", role: "group", "aria-label": looking ? "Report; arrow keys go from sentence to sentence" : "Report" });
  const nodes = [];
  for (const span of sentencesOf(report.text, evidence)) {
    const text = report.text.slice(span.start, span.end);
    if (!/\p{L}{2}/u.test(text) || /^[A-Z ]+:?\s*$/.test(text)) {
      box.append(text); // spaces, a heading
      continue;
    }
    const node = element(span.evidence ? "mark" : "span", text, { class: "sentence" });
    if (span.evidence) node.title = `Near to the query: cosine ${span.evidence.score.toFixed(2)}${denial(span.evidence.labels)}`;
    box.append(node);
    nodes.push(node);
    if (looking) makeVisible(node, { text: text.trim(), denies: denies(span.evidence), node }, looking);
  }
  if (looking) rove(box, nodes);
  return box;
}

function makeVisible(node, phrase, looking) {
  for (const [name, value] of Object.entries({ role: "button", tabindex: "-1", "aria-pressed": "false" })) node.setAttribute(name, value);
  for (const begin of ["mouseenter", "focus"]) node.addEventListener(begin, () => looking.point(phrase));
  for (const end of ["mouseleave", "blur"]) node.addEventListener(end, () => looking.point(null));
  node.addEventListener("click", () => looking.keep(phrase));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    looking.keep(phrase);
  });
}

const denies = (evidence) => Boolean(evidence?.labels.length) && evidence.labels.every(({ assertion }) => assertion === "absent");

function denial(labels) {
  const denied = labels.filter(({ assertion }) => assertion === "absent").map(({ finding }) => finding);
  return denied.length ? `; it denies ${denied.join(", ")}` : "";
}

/** One stop of the tab key for a report; arrow keys go on from there. */
function rove(box, nodes) {
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
