// The clinician's page: a study or a phrase goes out, similar studies come back.

import { json, placeKeyForm, Problem } from "./call.js";
import { openCard, openHelp } from "./cards.js";
import { compare, lookOn } from "./compare.js";
import { droppedFiles } from "./dropping.js";
import { announce, byId, element } from "./elements.js";
import { chosenFilters, placeFilters } from "./filters.js";
import { HitList } from "./hits.js";
import { ArchivedStudy, DroppedStudy, readDropped, sendSearch, StudyPanel } from "./study.js";

let model; // of /v1/model
let study = null; // what is asked with, besides words
let dropped = null; // studies and what was left out
let panel = null;
let running = null; // AbortController


async function search() {
  const phrase = byId("phrase").value.trim();
  const without = byId("without").value.trim();
  if (!study && !phrase) {
    tellProblem(new Problem({ title: "Nothing to search with", detail: "Drop a study, or write what the studies should show." }));
    return;
  }
  const form = new FormData();
  study?.addTo(form);
  if (study) form.append("zero_shot", "true");
  if (phrase) form.append("text", phrase);
  if (without && study) form.append("without", without);
  for (const [name, value] of chosenFilters()) form.append(name, value);
  await answer(form);
}

async function answer(form) {
  running?.abort();
  const control = (running = new AbortController());
  const asked = study;
  tellProblem(null);
  announce("Searching…");
  byId("work").hidden = false;
  byId("results").replaceChildren();
  byId("examples").hidden = true;
  if (asked) showPanel().waitFor(asked);
  try {
    const reply = await sendSearch(form, control.signal);
    if (running !== control) return;
    showReply(reply, asked);
    if (asked) await panel.show(asked, reply, model.viewer_url, control.signal);
  } catch (error) {
    if (running !== control || error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    tellProblem(error);
    if (asked) await panel.refuse(asked, error, control.signal);
  } finally {
    if (running === control) byId("work").hidden = true;
  }
}

function showReply(reply, asked) {
  const acts = {
    look: asked ? lookOn([panel.viewer]) : null,
    canCompare: true,
    compare: (hit) => compare(hit, asked ? panel.film : null, acts),
    searchWith: (found) => searchArchived(found.study_instance_uid),
    more: (cursor) => json("v1/search/page", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ cursor }) }),
    viewer: model.viewer_url,
  };
  const warnings = reply.warnings.map(({ detail }) => element("p", asked ? asked.inWords(detail) : detail, { class: "warning" }));
  const list = reply.hits.length ? new HitList(reply, acts).node : element("p", "No study fits. Are the filters too narrow?");
  byId("results").replaceChildren(...warnings, list);
  announce(`${reply.hits.length} ${reply.hits.length === 1 ? "study" : "studies"} found.${warnings.length ? ` ${warnings.length === 1 ? "There is a warning" : "There are warnings"}.` : ""}`);
}

function tellProblem(problem) {
  byId("problem").replaceChildren(problem ? element("p", problem.describe(), { class: "problem" }) : "");
  if (problem) announce("");
}


function showPanel() {
  panel ??= new StudyPanel({
    clear: clearStudy,
    choose: (chosen) => takeStudy(chosen),
    look: (phrase) => lookOn([panel.viewer])(phrase),
  });
  byId("query").hidden = false;
  byId("choose").hidden = true;
  byId("phrase-label").textContent = "Like this study, but with";
  byId("without-field").hidden = false;
  return panel;
}

function clearStudy() {
  running?.abort();
  study = dropped = panel = null;
  byId("query").hidden = true;
  byId("query").replaceChildren();
  byId("choose").hidden = false;
  byId("work").hidden = true;
  byId("phrase-label").textContent = "Find studies that show";
  byId("without-field").hidden = true;
  byId("without").value = "";
  byId("results").replaceChildren();
  byId("examples").hidden = false;
  announce("");
  tellProblem(null);
  history.replaceState(null, "", location.pathname);
  byId("choose-files").focus();
}

async function take(files) {
  if (!files.length) return;
  tellProblem(null);
  announce("Reading the files…");
  await ready;
  dropped = await readDropped([...files]);
  if (!dropped.studies.length) {
    const why = dropped.skipped.slice(0, 5).map(({ name, detail }) => `${name}: ${detail}`).join(" ");
    tellProblem(new Problem({ title: "No radiograph among the files", detail: why || "Nothing was found." }));
    return;
  }
  await takeStudy(dropped.studies[0]);
}

async function takeStudy(chosen) {
  try {
    study = new DroppedStudy(dropped.studies, chosen, dropped.skipped, model);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tellProblem(error);
    return;
  }
  byId("phrase").value = "";
  await search();
}

async function searchArchived(uid) {
  try {
    const found = await json(`v1/studies/${encodeURIComponent(uid)}`);
    study = new ArchivedStudy(found.study);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tellProblem(error);
    return;
  }
  byId("phrase").value = "";
  window.scrollTo({ top: 0 });
  history.replaceState(null, "", `#study=${encodeURIComponent(uid)}`);
  await search();
}


const drop = document.body;
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
drop.addEventListener("dragleave", (event) => event.relatedTarget || byId("drop").classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  take(await droppedFiles(event.dataTransfer));
});
for (const [id, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  byId(id).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = "";
  });
}
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!study) history.replaceState(null, "", `#text=${encodeURIComponent(byId("phrase").value.trim())}`);
  search();
});
for (const example of document.querySelectorAll("#examples button")) {
  example.addEventListener("click", () => {
    byId("phrase").value = example.textContent;
    byId("ask").requestSubmit();
  });
}
byId("stop").addEventListener("click", () => {
  running?.abort();
  byId("work").hidden = true;
  announce("Stopped.");
});
byId("open-card").addEventListener("click", async () => openCard(await ready));
byId("open-help").addEventListener("click", openHelp);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog, .film, .report")) return;
  const acts = {
    "/": () => byId("phrase").focus(),
    u: () => byId("choose-files").click(),
    "?": openHelp,
    j: () => step(1),
    k: () => step(-1),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

function step(by) {
  const heads = [...document.querySelectorAll(".card h3")];
  const at = heads.findIndex((head) => head.closest(".card").contains(document.activeElement));
  heads[Math.min(heads.length - 1, Math.max(0, at + by))]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches(".card h3")) return;
  event.preventDefault(); // else the key goes on to the button that gets the focus
  event.target.closest(".card").querySelector(".thumbnail").click();
});


placeKeyForm(document.querySelector("main"));

async function begin() {
  model = await json("v1/model");
  byId("notice-more").textContent = model.provenance.notice;
  placeFilters(model.findings);
  return model;
}

const ready = begin();
ready
  .then(followAddress)
  .catch((error) => tellProblem(error instanceof Problem ? error : new Problem({ title: "The page cannot begin", detail: String(error) })));

// An address can carry the question, after the # so that no server or proxy logs it: #text=…, #study=UID (a PACS's link).
function followAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.get("study")) return searchArchived(asked.get("study"));
  if (!asked.get("text")) return null;
  byId("phrase").value = asked.get("text");
  return search();
}
window.addEventListener("hashchange", () => ready.then(followAddress));
