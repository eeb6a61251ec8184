// A hit beside the query: two films, the report, its sentences on both.

import { Problem } from "./call.js";
import { button, byId, element } from "./elements.js";
import { mapOf } from "./heat.js";
import { chips, copy, pictureOf } from "./hits.js";
import { viewerLink } from "./links.js";
import { reportText } from "./report_text.js";
import { Viewer } from "./viewer.js";

const SIZE = 1024; // px

/**
 * Opens the dialog. `queryPicture`: a promise of the query's film as PNG, or null where it was asked by words.
 * `acts`: `searchWith(study)`, `viewer`.
 */
export function compare(hit, queryPicture, acts) {
  const dialog = byId("compare");
  const own = queryPicture ? new Viewer("The study you asked with") : null;
  const its = new Viewer(`Hit ${hit.rank}`);
  its.tell("Loading…");
  const films = [own && side("Your study", own), side(`Hit ${hit.rank}: ${hit.study.study_date ?? "no date"}`, its, viewPicker(hit, its))];
  const look = lookOn([own, its].filter(Boolean));
  const close = button("Close", () => dialog.close(), { class: "second" });
  dialog.replaceChildren(
    element("div", undefined, { class: "row top" }, element("h2", queryPicture ? "Side by side" : `Hit ${hit.rank}`, { id: "compare-title", class: "grow" }), close),
    element("div", undefined, { class: `films${own ? " two" : ""}` }, ...films, words(hit, look, dialog, acts)),
  );
  dialog.showModal();
  close.focus();
  own?.tell("Loading…");
  queryPicture?.then((png) => own.show(png)).catch(() => own.tell("The picture cannot be shown."));
  showView(hit, its, "frontal");
}

function words(hit, look, dialog, acts) {
  return element(
    "section",
    undefined,
    { "aria-label": "Report" },
    element("h3", `Report of hit ${hit.rank}`),
    chips(hit.labels),
    hit.report ? reportText(hit.report, hit.evidence, look) : element("p", "No report in the archive.", { class: "quiet" }),
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

function showView(hit, viewer, view) {
  pictureOf(hit.study, SIZE, view)
    .then((png) => viewer.show(png, `Hit ${hit.rank}, ${view}`))
    .catch((error) => viewer.tell(error instanceof Problem ? error.detail : "The picture cannot be shown."));
}

/** `look(phrase, pinned)` on several films at once; a pinned phrase stays when the pointer goes. */
export function lookOn(viewers, said = () => {}) {
  let pinned = null;
  let latest = 0;
  return async (phrase, pin) => {
    if (pin !== undefined) pinned = phrase;
    const wanted = phrase ?? pinned;
    const turn = (latest += 1);
    if (!wanted) {
      for (const viewer of viewers) viewer.clearMap();
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 120)); // a pointer on its way over sentences asks for none
    if (turn !== latest) return;
    for (const viewer of viewers) {
      if (!viewer.picture) continue;
      try {
        const map = await mapOf(viewer.picture.png, wanted);
        if (turn === latest) viewer.showMap(map, wanted);
      } catch (error) {
        if (turn === latest) viewer.legend.textContent = error instanceof Problem ? `No map: ${error.detail}` : "No map.";
        if (!(error instanceof Problem)) throw error;
      }
    }
    if (turn === latest) said(wanted);
  };
}
