// Zero-shot findings as bars, with what they mean said beside them.

import { button, element } from "./elements.js";

/**
 * @param zeroShot `zero_shot` of a reply: calibrated findings have a probability, others only a direction.
 * @param looking shows a finding's phrase on the film (`Looking`).
 */
export function findingsPanel(zeroShot, looking) {
  const { findings } = zeroShot;
  const calibrated = findings.filter(isCalibrated).sort((a, b) => b.probability - a.probability);
  const leaning = findings.filter((row) => !isCalibrated(row)).sort((a, b) => lean(b) - lean(a));
  const range = Math.max(...leaning.map((row) => Math.abs(lean(row))), 0.02);
  return element(
    "section",
    undefined,
    { "aria-label": "Findings of the study" },
    calibrated.length && table("Findings, calibrated", "Probability", calibrated, probabilityCell, looking),
    calibrated.length && meaning(zeroShot.calibration),
    leaning.length && table("Findings, not calibrated", "Leans", leaning, (row) => leanCell(row, range), looking),
    leaning.length && element("p", NOT_CALIBRATED, { class: "quiet small" }),
  );
}

const NOT_CALIBRATED =
  "Bars tell whether the study is nearer to phrases for a finding or to phrases against it, relative to the longest bar. They are no probabilities and decide nothing: "
  + "where zero lies differs from finding to finding, and no labelled sample was used to learn it.";

const isCalibrated = ({ probability }) => probability !== null && probability !== undefined;
const lean = (row) => row.positive_cosine - row.negative_cosine;

function table(caption, column, rows, cell, looking) {
  const head = element("tr", undefined, {}, element("th", "Finding", { scope: "col" }), element("th", column, { scope: "col" }));
  const body = element("tbody");
  for (const row of rows) {
    const name = button(row.name, () => looking.keep({ text: `${row.name}.`, denies: false, node: name }), { class: "link", title: "Show on the film", "aria-pressed": "false" });
    body.append(element("tr", undefined, {}, element("th", undefined, { scope: "row" }, name), cell(row)));
  }
  return element("table", undefined, { class: "findings" }, element("caption", caption), element("thead", undefined, {}, head), body);
}

function probabilityCell(row) {
  return element("td", undefined, {}, bar(0, row.probability, row.decision), element("span", `${Math.round(100 * row.probability)} %, ${row.decision}`, { class: "value" }));
}

function leanCell(row, range) {
  const share = lean(row) / range; // -1 to 1, of the longest bar
  const word = Math.abs(share) < 0.15 ? "neither way" : share > 0 ? "toward it" : "away from it";
  const title = `cosine ${row.positive_cosine.toFixed(3)} with phrases for it, ${row.negative_cosine.toFixed(3)} against it. ${row.not_calibrated ?? ""}`;
  return element("td", undefined, { title }, bar(0.5, 0.5 + share / 2, "leaning"), element("span", word, { class: "value" }));
}

/** From `start` to `end` of 0..1. An SVG, as styles that a script computes are attributes of it and no inline style. */
function bar(start, end, kind) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 100 8", preserveAspectRatio: "none", class: `bar ${kind}`, "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  const [low, high] = [Math.min(start, end), Math.max(start, end)];
  for (const [kindOf, x, width] of [["ground", 0, 100], ["fill", 100 * low, Math.max(100 * (high - low), 0.6)], ["middle", 100 * start - 0.25, 0.5]]) {
    const part = document.createElementNS(space, "rect");
    for (const [name, value] of Object.entries({ x, y: 0, width, height: 8, class: kindOf })) part.setAttribute(name, value);
    svg.append(part);
  }
  return svg;
}

function meaning({ sample, date, studies, patients }) {
  const words = `As fitted on ${sample} (${date}; ${studies} studies of ${patients} patients), and true of patients like those. “Uncertain” abstains. No diagnosis.`;
  return element("p", words, { class: "quiet small" });
}
