// A hit beside the query: two films, the report, its sentences on both.

import { button, byId, element } from "./elements.js";
import { chips, copy, pictureOf } from "./hits.js";
import { viewerLink } from "./links.js";
import { Looking } from "./looking.js";
import { reportText } from "./report_text.js";
import { Viewer } from "./viewer.js";

const SIZE = 1024; // px

/**
 * Opens the dialog. `queryPicture`: a promise of the query's frontal film as PNG, or null where it was asked by words.
 * `acts`: `searchWith(study)`, `viewer`.
 */
export function compare(hit, queryPicture, acts) {
  const dialog = byId("compare");
  const own = queryPicture && new Viewer("The study you asked with");
  const its = new Viewer(`Hit ${hit.rank}`);
  if (own) its.legend.setAttribute("aria-live", "off"); // both say the same
  const looking = new Looking([own, its].filter(Boolean));
  const close = button("Close", () => dialog.close(), { class: "second" });
  dialog.replaceChildren(
    element("div", undefined, { class: "row top" }, element("h2", own ? "Side by side" : `Hit ${hit.rank}`, { id: "compare-title", class: "grow" }), close),
    element(
      "div",
      undefined,
      { class: `films${own ? " two" : ""}` },
      own && side("Your study", own),
      side(`Hit ${hit.rank}: ${hit.study.study_date ?? "no date"}`, its, viewPicker(hit, its)),
      words(hit, looking, dialog, acts),
    ),
  );
  dialog.addEventListener("close", () => dialog.replaceChildren(), { once: true }); // films are large
  dialog.showModal();
  close.focus();
  own?.load(queryPicture, "Your study, frontal", "frontal");
  showView(hit, its, "frontal");
}

function words(hit, looking, dialog, acts) {
  return element(
    "section",
    undefined,
    { "aria-label": "Report" },
    element("h3", `Report of hit ${hit.rank}`),
    chips(hit.labels),
    hit.report ? reportText(hit.report, hit.evidence, looking) : element("p", "No report in the archive.", { class: "quiet" }),
    element(
      "div",
      undefined,
      { class: "row tools" },
      hit.report && button("Copy report", () => copy(hit.report.text), { class: "second" }),
      button("Search with this", () => (dialog.close(), acts.searchWith(hit.study)), { class: "second" }),
      viewerLink(acts.viewer, hit.study),
    ),
  );
}

const side = (title, viewer, picker) =>
  element("section", undefined, { "aria-label": title }, element("div", undefined, { class: "row title" }, element("h3", title, { class: "grow" }), picker), viewer.node);

function viewPicker(hit, viewer) {
  const has = hit.study.views.some((view) => ["lateral", "LL", "RL"].includes(view));
  if (!has) return null;
  const select = element("select", undefined, { onchange: () => showView(hit, viewer, select.value) });
  select.append(element("option", "frontal", { value: "frontal" }), element("option", "lateral", { value: "lateral" }));
  return element("label", "View ", {}, select);
}

const showView = (hit, viewer, view) => viewer.load(pictureOf(hit.study, SIZE, view), `Hit ${hit.rank}, ${view}`, view);
