// Zero-shot findings as bars, with what they mean said beside them.

import { button, element } from "./elements.js";

/**
 * @param zeroShot `zero_shot` of a reply: calibrated findings have a probability, others only a direction.
 * @param ask called with a phrase when the reader wants to see it on the film.
 */
export function findingsPanel(zeroShot, ask) {
  const calibrated = Boolean(zeroShot.calibration);
  const rows = [...zeroShot.findings].sort((a, b) => order(b) - order(a));
  const table = element("table", undefined, { class: "findings" });
  table.append(element("caption", calibrated ? "Findings, calibrated" : "Findings, not calibrated"));
  const head = element("tr");
  for (const name of ["Finding", calibrated ? "Probability" : "Leans to"]) head.append(element("th", name, { scope: "col" }));
  table.append(element("thead", undefined, {}, head));
  const body = element("tbody");
  const range = Math.max(...zeroShot.findings.map((row) => Math.abs(row.positive_cosine - row.negative_cosine)), 0.02);
  for (const row of rows) body.append(rowOf(row, range, ask));
  table.append(body);
  return element("section", undefined, { "aria-label": "Findings of the study" }, table, meaning(zeroShot));
}

const order = (row) => row.probability ?? row.score;

function rowOf(row, range, ask) {
  const name = button(row.name, () => ask(`${row.name}.`), { class: "link", title: "Show on the film" });
  const cell = element("td");
  if (row.probability !== null && row.probability !== undefined) {
    const words = `${Math.round(100 * row.probability)} %, ${row.decision}`;
    cell.append(bar(0, row.probability, row.decision), element("span", words, { class: "value" }));
  } else {
    const lean = (row.positive_cosine - row.negative_cosine) / range; // -1 to 1, of the strongest of this study
    const strength = Math.abs(lean) < 0.15 ? "undecided" : lean > 0 ? "present" : "absent";
    cell.append(bar(0.5, 0.5 + lean / 2, strength), element("span", strength, { class: "value" }));
    cell.title = row.not_calibrated ?? `cosine ${row.positive_cosine.toFixed(3)} with its presence, ${row.negative_cosine.toFixed(3)} with its absence`;
  }
  return element("tr", undefined, {}, element("th", undefined, { scope: "row" }, name), cell);
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

function meaning(zeroShot) {
  const { calibration } = zeroShot;
  if (!calibration) {
    return element(
      "p",
      "Bars compare how near the study is to phrases for a finding and against it, relative to the strongest bar. They are no probabilities: "
        + "no labelled sample of this site was used to calibrate these encoders.",
      { class: "quiet" },
    );
  }
  const { sample, date, studies, patients } = calibration;
  return element(
    "p",
    `Probabilities as fitted on ${sample} (${date}; ${studies} studies of ${patients} patients), true of patients like those. “Uncertain” abstains. No diagnosis.`,
    { class: "quiet" },
  );
}
