// Hits as cards, a summary over them, and what can be done with a list of them.

import { blob, Problem } from "./call.js";
import { announce, button, element, toast } from "./elements.js";
import { csvOf, download } from "./export.js";
import { reportText } from "./report_text.js";
import { viewerLink } from "./links.js";

const THUMBNAIL = 320; // px

/** An archived study's picture as PNG. An address in `src` could bring no key along. */
export const pictureOf = (study, size, view = "frontal", signal = undefined) =>
  blob(`${study.image_url.replace(/^\//, "")}?size=${size}&view=${view}`, { signal });

/**
 * The list of a search: summary, cards, more of them.
 *
 * @param acts `filters` (what is set, in words), `looking` (`Looking`, or null), `compare(hit)`, `searchWith(study)`, `more(cursor)`, `viewer` (URL template).
 */
export class HitList {
  constructor(reply, acts) {
    this.first = reply;
    this.hits = [];
    this.acts = acts;
    this.cards = element("ol", undefined, { class: "hits" });
    this.moreButton = button("More", () => this.more(), { class: "second" });
    this.moreProblem = element("p", "", { class: "problem", role: "alert", hidden: true });
    const tools = element("div", undefined, { class: "row" }, element("p", ranked(reply, acts.filters), { class: "quiet grow" }), button("Export as CSV", () => this.save(), { class: "second" }));
    this.node = element("div", undefined, {}, tools, summary(reply), this.cards, this.moreButton, this.moreProblem);
    this.add(reply);
  }

  add(reply) {
    this.cursor = reply.next_cursor;
    this.hits.push(...reply.hits);
    this.cards.append(...reply.hits.map((hit) => card(hit, this.acts)));
    this.moreButton.hidden = !this.cursor;
  }

  async more() {
    this.moreButton.disabled = true;
    this.moreProblem.hidden = true;
    try {
      const reply = await this.acts.more(this.cursor);
      if (!this.node.isConnected) return; // something else was asked meanwhile
      const from = this.cards.children.length;
      this.add(reply);
      announce(`${reply.hits.length} more ${reply.hits.length === 1 ? "study" : "studies"}.`);
      this.cards.children[from]?.querySelector("h3").focus();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.moreProblem.textContent = error.describe();
      this.moreProblem.hidden = false;
    } finally {
      this.moreButton.disabled = false;
    }
  }

  save() {
    download(csvOf(this.hits, this.first), "similar-studies.csv", "text/csv;charset=utf-8");
    toast(`${this.hits.length} studies exported. The table holds health data: keep it as you keep reports.`);
  }
}

function ranked(reply, filters) {
  const by = { fused: "image and report", report: "report", image: "image" }[reply.ranking.by];
  const own = reply.own_patient_excluded ? " This patient's own studies are left out." : "";
  const narrowed = filters.length ? ` Only: ${filters.join("; ")}.` : "";
  return `Compared by ${by}.${own}${narrowed}`;
}

function summary(reply) {
  const { reports_read: read, findings } = reply.findings_summary;
  if (!read || !findings.length) return null;
  const shown = findings.filter((each) => each.present || each.uncertain).slice(0, 6);
  if (!shown.length) return null;
  const list = element("ul");
  list.append(...shown.map((each) => element("li", each.sentence)));
  return element("section", undefined, { class: "summary", "aria-label": "What the reports of these studies say" }, element("h3", `What the ${read} reports say`), list);
}

function card(hit, acts) {
  const { study } = hit;
  const picture = button(undefined, () => acts.compare(hit), { class: "thumbnail", "aria-label": `Compare with hit ${hit.rank}` });
  placeThumbnail(picture, study);
  const facts = [study.study_date ?? "no date", study.age !== null && `${Math.floor(study.age)} years`, { F: "female", M: "male", O: "other" }[study.sex], study.modality, study.views.join(" + "), study.institution];
  const body = element(
    "div",
    undefined,
    { class: "grow" },
    element("h3", `${hit.rank}. ${facts.filter(Boolean).join(", ")}`, { tabindex: -1 }),
    likeness(hit),
    element("p", named(study), { class: "quiet small" }),
    chips(hit.labels),
    hit.report ? reportText(hit.report, hit.evidence, acts.looking) : element("p", "No report in the archive.", { class: "quiet" }),
    others(hit),
    tools(hit, acts),
  );
  return element("li", undefined, { class: "card" }, picture, body);
}

/** What a study is found by in the PACS. */
const named = ({ accession_number: accession, study_instance_uid: uid }) => `${accession ? `Accession number ${accession}, s` : "S"}tudy ${uid}`;

/** Pictures come when they are about to be seen: queries go first. */
const soon = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      soon.unobserve(target);
      target.dispatchEvent(new Event("soon"));
    }
  },
  { rootMargin: "400px" },
);

function placeThumbnail(place, study) {
  place.addEventListener("soon", async () => {
    try {
      const url = URL.createObjectURL(await pictureOf(study, THUMBNAIL));
      place.append(element("img", undefined, { src: url, alt: "", onload: () => URL.revokeObjectURL(url) }));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      place.append(element("span", "No picture", { class: "quiet" }));
    }
  });
  soon.observe(place);
}

/** Score and percentile, in words that say what they are not. */
function likeness(hit) {
  const score = hit.score_kind === "fused" ? `score ${hit.score.toFixed(2)}` : `cosine ${hit.score.toFixed(3)}`;
  const line = element("p", undefined, { class: "likeness" });
  if (hit.percentile !== null) {
    const share = hit.percentile.toFixed(hit.percentile > 99 ? 2 : 1);
    line.append(element("strong", `Nearer than ${hit.percentile >= 99.99 ? "at least 99.99" : share} %`), " of random pairs here ");
  }
  const parts = [["image", hit.scores.image], ["report", hit.scores.report]].filter(([, value]) => value !== null);
  line.append(element("span", `(${[score, ...parts.map(([name, value]) => `${name} ${value.toFixed(2)}`)].join(", ")})`, { class: "quiet" }));
  if (hit.same_patient) line.append(element("span", "same patient", { class: "chip own" }));
  return line;
}

const SIGNS = { present: "+", uncertain: "?" };

/** Findings of a report: what it asserts and suspects as chips, what it denies in a line. */
export function chips(labels) {
  const box = element("div");
  const list = element("ul", undefined, { class: "chips", "aria-label": "Findings of the report" });
  for (const assertion of Object.keys(SIGNS)) {
    for (const { finding, laterality } of labels.filter((label) => label.assertion === assertion)) {
      const text = `${SIGNS[assertion]} ${finding}${laterality ? `, ${laterality}` : ""}`;
      list.append(element("li", text, { class: `chip ${assertion}`, title: `The report calls it ${assertion}.` }));
    }
  }
  if (list.children.length) box.append(list);
  const denied = labels.filter((label) => label.assertion === "absent" && label.finding !== "No Finding");
  if (denied.length) {
    box.append(element("p", `Denied: ${denied.map(({ finding }) => finding.toLowerCase()).join(", ")}.`, { class: "quiet small" }));
  }
  return box;
}

function others(hit) {
  const { count } = hit.similar_reports;
  if (!count) return null;
  const words = count === 1 ? "1 more study has a report that says the same." : `${count} more studies have reports that say the same.`;
  return element("p", words, { class: "quiet" });
}

function tools(hit, acts) {
  return element(
    "div",
    undefined,
    { class: "row tools" },
    button("Side by side", () => acts.compare(hit), { class: "second" }),
    hit.report && button("Copy report", () => copy(hit.report.text), { class: "second" }),
    button("Search with this", () => acts.searchWith(hit.study), { class: "second" }),
    viewerLink(acts.viewer, hit.study),
  );
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Report copied.");
  } catch {
    toast("The browser does not let this page copy. Select the text instead.");
  }
}
