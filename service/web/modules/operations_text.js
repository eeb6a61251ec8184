// Numbers, sizes and times as an administrator reads them, and the small tables and lists they stand in.

import { element } from "./elements.js";

const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export const count = (value) => whole.format(value);

export function bytes(value) {
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

/** A span of time in its two largest units. */
export function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "under 1 s";
  return parts
    .slice(first, first + 2)
    .map(([size, unit], place) => [Math.floor(place ? (seconds % parts[first][0]) / size : seconds / size), unit])
    .filter(([number]) => number)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

export const seconds = (value) => (value === null ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A moment in the reader's own time zone; of another day with its date. */
export function moment(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(today && { second: "2-digit" }) });
  const words = today ? time : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
  return element("time", words, { datetime: text, title: at.toISOString() });
}

/** Large figures: [label, value] pairs. */
export function figures(pairs) {
  const list = element("dl", undefined, { class: "figures" });
  for (const [label, value] of pairs) list.append(element("div", undefined, {}, element("dt", label), element("dd", value)));
  return list;
}

/** Facts in words: [label, text or node] pairs; null values are left out. */
export function facts(pairs) {
  const list = element("dl", undefined, { class: "facts" });
  for (const [label, value] of pairs) {
    if (value === null || value === undefined) continue;
    const shown = element("dd");
    shown.append(...(Array.isArray(value) ? value : [value]));
    list.append(element("dt", label), shown);
  }
  return list;
}

/**
 * A table with a caption. columns: headings, each a text or [text, class]; rows: cells, each a text or a node, of which the
 * first is the row's heading.
 */
export function table(caption, columns, rows) {
  const heads = columns.map((column) => [column].flat());
  const head = element("tr", undefined, {}, ...heads.map(([text, kind]) => element("th", text, { scope: "col", class: kind })));
  const body = element("tbody");
  for (const cells of rows) {
    const row = element("tr");
    cells.forEach((cell, place) => {
      const node = element(place ? "td" : "th", undefined, { class: heads[place][1], scope: place ? null : "row" });
      node.append(cell ?? "");
      row.append(node);
    });
    body.append(row);
  }
  return element("table", undefined, { class: "table" }, element("caption", caption), element("thead", undefined, {}, head), body);
}

/** A bar of how much of something is there, with its words. */
export function measure(label, value, most, words) {
  const bar = element("progress", undefined, { max: Math.max(most, 1), value, "aria-label": `${label}: ${words}` });
  return element("div", undefined, { class: "measure" },
    element("span", undefined, {}, element("span", label), element("span", words)), bar);
}

/** A text in which what stands between backticks is code. */
export const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? element("code", part) : part));

/** A state in words with a sign before it. */
export const state = (name) => element("span", name, { class: `state ${name}` });

/** A fingerprint by its beginning, whole when it is pointed at. */
export const fingerprint = (text) => element("code", text.slice(0, 12), { title: text });
