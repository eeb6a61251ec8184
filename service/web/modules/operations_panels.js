// The panels of figures, each from one or two parts of the reply of /v1/operations.

import { element } from "./elements.js";
import { bytes, count, facts, figures, fingerprint, measure, moment, plural, seconds, span, state, table } from "./operations_text.js";

const SVG = "http://www.w3.org/2000/svg";

export function archivePanel(value) {
  return [
    figures([
      ["studies", count(value.studies)],
      ["patients", count(value.patients)],
      ["images", count(value.images)],
      ["reports", count(value.reports_matched)],
      ["reports waiting", count(value.reports_waiting)],
      ["files refused", count(value.files_refused)],
    ]),
  ];
}

export function embeddingPanel(value) {
  const shown = [];
  for (const [kind, label] of [["image", "Images"], ["report", "Reports"]]) {
    const { due, embedded, missing, failed } = value[kind];
    const lost = failed.reduce((sum, reason) => sum + reason.count, 0);
    const words = [`${count(embedded)} of ${count(due)}`, missing && `${count(missing)} missing`, lost && `${count(lost)} failed`];
    shown.push(measure(label, embedded, due, words.filter(Boolean).join(", ")));
  }
  const failures = [...value.image.failed.map((reason) => ["image", reason]), ...value.report.failed.map((reason) => ["report", reason])];
  if (failures.length) {
    const rows = failures.map(([kind, reason]) => [reason.title, kind, count(reason.count)]);
    shown.push(table("Failed to be embedded", ["Reason", "Of", ["Studies", "number"]], rows));
  }
  if (value.without_frontal) {
    const words = `Without a frontal image, so not found by image: ${plural(value.without_frontal, "study", "studies")}. Which: `;
    shown.push(element("p", words, { class: "quiet small" }, element("code", "alta archive without-frontal"), "."));
  }
  if (value.reindex_to) shown.push(element("p", `Moving to other encoders, ${value.reindex_to.slice(0, 12)}, is under way.`));
  return shown;
}

export function generationsPanel(value, searched) {
  const { live, others, last_verification: verified } = value;
  if (!live) return [element("p", "No index is live."), otherGenerations(others)];
  const checks = [
    live.self_found !== null && `${count(live.self_found)} rows looked for themselves, and all were found`,
    live.recall !== null && `recall@10 against exact search ${live.recall.toFixed(3)}, at least ${live.least_recall} is needed`,
  ];
  return [
    figures([
      ["live generation", String(live.id)],
      ["studies by image", count(live.image_rows)],
      ["studies by report", count(live.report_rows)],
      ["searched beside it", count(Math.max(value.image_beside, value.report_beside))],
      ["left out of it", count(Math.max(value.image_left_out, value.report_left_out))],
    ]),
    element("h3", "Its checks and files"),
    facts([
      ["Checks", checks.filter(Boolean).join("; ") + "."],
      ["Files verified", verified ? [state(verified.state), " ", moment(verified.finished_at)] : "not yet"],
      ["Engine", live.engine],
      ["Encoders", fingerprint(live.model_fingerprint)],
      ["Built", moment(live.built_at)],
      ["Live since", live.live_since && moment(live.live_since)],
      ["This process searches", searched && `generation ${searched.generation ?? "none"}, ${plural(searched.images, "study", "studies")}`],
    ]),
    otherGenerations(others),
  ];
}

function otherGenerations(others) {
  const rows = others.slice(0, 8).map((each) => [
    String(each.id),
    state(each.state),
    count(each.image_rows),
    each.recall === null ? "–" : each.recall.toFixed(3),
    moment(each.built_at),
  ]);
  return rows.length && table("Other generations", ["Id", "State", ["Studies", "number"], ["Recall@10", "number"], "Built"], rows);
}

export function refusedPanel(value) {
  const shown = [];
  for (const [caption, reasons] of [["Files", value.files], ["Reports", value.reports]]) {
    if (!reasons.length) continue;
    const rows = reasons.map((reason) => [explained(reason), count(reason.count)]);
    shown.push(table(`${caption} by reason`, ["Reason", ["How many", "number"]], rows));
  }
  if (!shown.length) return [element("p", "Nothing was refused.")];
  shown.push(element("p", undefined, { class: "quiet small" }, "Which they are: ", element("code", "alta archive refused"), "."));
  return shown;
}

function explained(reason) {
  return element("a", reason.title, { href: `problems/${encodeURIComponent(reason.slug)}` });
}

export function throughputPanel(value) {
  const shown = [];
  for (const [label, hours, week] of [
    ["Studies taken in", value.taken_in, value.taken_in_week],
    ["Studies embedded", value.embedded, value.embedded_week],
  ]) {
    const day = hours.reduce((sum, number) => sum + number, 0);
    const words = `${count(hours.at(-1))} in the last hour, ${count(day)} in 24 hours, ${count(week)} in 7 days`;
    shown.push(element("h3", label), element("p", words, { class: "small" }), hourBars(label, hours));
  }
  return shown;
}

function hourBars(label, hours) {
  const most = Math.max(...hours, 1);
  const peak = Math.max(...hours);
  const chart = document.createElementNS(SVG, "svg");
  for (const [name, text] of [["class", "hours"], ["viewBox", "0 0 240 60"], ["preserveAspectRatio", "none"], ["role", "img"]]) chart.setAttribute(name, text);
  chart.setAttribute("aria-label", `${label} in each of the last 24 hours, the oldest first: ${hours.join(", ")}`);
  hours.forEach((number, place) => {
    const height = number ? Math.max((56 * number) / most, 2) : 0;
    chart.append(box(place * 10 + 1, 0, 60, "slot"), box(place * 10 + 1, 60 - height, height, "rows"));
  });
  const ends = element("div", undefined, { class: "hours-ends", "aria-hidden": "true" });
  ends.append(element("span", "24 h ago"), element("span", peak ? `highest bar: ${count(peak)} an hour` : "nothing"), element("span", "now"));
  return element("div", undefined, {}, chart, ends);
}

function box(x, y, height, kind) {
  const node = document.createElementNS(SVG, "rect");
  for (const [name, number] of [["x", x], ["y", y], ["width", 8], ["height", height]]) node.setAttribute(name, number);
  node.setAttribute("class", kind);
  return node;
}

export function diskPanel(value, sizes) {
  const shown = [measure("Disk of the data folder", value.total - value.free, value.total, `${bytes(value.free)} of ${bytes(value.total)} free`)];
  const about = sizes?.received_estimated ? "about " : "";
  shown.push(
    facts([
      ["Kept free", bytes(value.kept_free)],
      ["Database", sizes && bytes(sizes.database)],
      ["Generations", sizes && bytes(sizes.generations)],
      ["Received files", sizes && about + bytes(sizes.received)],
    ]),
  );
  return shown;
}

export function backupsPanel(value) {
  const last = value.last_at ? moment(value.last_at) : "none is known";
  return [element("h3", "Backups"), facts([["Last", last], ["On the list", count(value.count)], ["Not found", value.missing ? count(value.missing) : null]])];
}

export function processPanel(value, rate, at) {
  const { encoders, searches } = value;
  const requests = Object.entries(value.requests).map(([status, number]) => `${status}: ${count(number)}`).join(", ");
  const waiting = Object.entries(value.queue).filter(([, number]) => number).map(([line, number]) => `${count(number)} ${line}`);
  return [
    facts([
      ["Version", value.version],
      ["Host", value.host],
      ["Up for", [span((new Date(at) - new Date(value.started_at)) / 1000), ", since ", moment(value.started_at)]],
      ["Encoders", [encoders.name, encoders.demo ? " (demo) " : " ", fingerprint(encoders.fingerprint)]],
      ["Runs on", encoders.device && `${encoders.device}, ${encoders.dtype ?? "unknown precision"}`],
      ["Decoders", value.decoders ? plural(value.decoders, "process", "processes") : "in the service's own process"],
      ["Requests", `${plural(value.requests_running, "under way", "under way")}; ${rate ?? "their rate shows after a minute"}`],
      ["Answered", requests || "none yet"],
      ["Turned away", value.turned_away ? `${count(value.turned_away)} (429)` : "none"],
      ["Searches", searches.count ? `${count(searches.count)}; half within ${seconds(searches.median)}, 95 % within ${seconds(searches.p95)}` : "none yet"],
      ["Wait to be encoded", waiting.join(", ") || "nothing"],
    ]),
  ];
}
