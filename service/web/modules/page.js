// The clinician's page: a study or a phrase goes out, similar studies come back.

import { json, placeKeyForm, Problem } from "./call.js";
import { openCard, openHelp, shortcutsAreOn } from "./cards.js";
import { compare } from "./compare.js";
import { droppedFiles } from "./dropping.js";
import { announce, button, byId, element } from "./elements.js";
import { chosenFilters, filtersInWords, placeFilters } from "./filters.js";
import { HitList } from "./hits.js";
import { ArchivedStudy, DroppedStudy, readDropped, sendSearch, StudyPanel } from "./study.js";

let model = null; // of /v1/model
let study = null; // what is asked with, besides words
let panel = null;
let task = null; // AbortController of what the page is doing: whatever is begun ends what was under way

// Every way to ask goes through here: what is under way ends, and what fails is told in one place.
async function perform(work, first) {
  task?.abort();
  const own = (task = new AbortController());
  tellProblem(null);
  announce(first);
  try {
    model ??= await begin();
    if (!own.signal.aborted) await work(own.signal);
  } catch (error) {
    if (own.signal.aborted || error.name === "AbortError") return;
    const told = error instanceof Problem ? error : new Problem({ title: "The page has failed", detail: String(error) });
    tellProblem(told);
    if (!(error instanceof Problem)) throw error;
  } finally {
    if (task === own) byId("work").hidden = true;
  }
}

async function begin() {
  const found = await json("v1/model");
  byId("notice-more").textContent = found.provenance.notice;
  placeFilters(found, () => byId("results").children.length && search()); // a list beside filters that it does not keep to misleads
  return found;
}

function search(more = {}) {
  return perform((signal) => ask(signal, more), "Searching…");
}

async function ask(signal, more = {}) {
  const phrase = byId("phrase").value.trim();
  const without = byId("without").value.trim();
  const asked = study;
  if (!asked && !phrase) throw new Problem({ title: "Nothing to search with", detail: "Drop a study, or write what the studies should show." });
  if (!byId("ask").reportValidity()) throw new Problem({ title: "A filter cannot be used", detail: "See the field that is marked." });
  const form = new FormData();
  asked?.addTo(form);
  if (asked) form.append("zero_shot", "true");
  if (phrase) form.append("text", phrase);
  if (without && asked) form.append("without", without);
  for (const [name, value] of [...chosenFilters(), ...Object.entries(more)]) form.append(name, value);
  announce("Searching…");
  byId("results").replaceChildren();
  byId("examples").hidden = true;
  byId("work").hidden = false;
  if (asked) showPanel().waitFor(asked);
  let reply;
  try {
    reply = await sendSearch(form, signal);
  } catch (error) {
    if (asked && error instanceof Problem && !signal.aborted) {
      tellProblem(error, allTheSame(error, asked));
      byId("work").hidden = true;
      return panel.refuse(asked, error, signal);
    }
    throw error;
  }
  if (signal.aborted) return null;
  byId("work").hidden = true;
  showReply(reply, asked);
  return asked ? panel.show(asked, reply, model.viewer_url, signal) : null;
}

/** What a picture shows may be judged wrongly; who looks at it decides. */
function allTheSame({ more }, asked) {
  const slug = more.type?.split("/").pop();
  if (slug === "unlike-a-chest-radiograph") return button("Search all the same", () => search({ check_image: "false" }), { class: "second" });
  if (slug !== "no-frontal-image" || asked.files?.length !== 1) return null;
  return button("It is a frontal film: search with it", () => search({ views: "frontal" }), { class: "second" });
}

const SIMULATED =
  "The encoders in use were trained on simulated images alone. On real films, and on words that no simulated report has, hits are close to chance, however near they are said to be.";

function showReply(reply, asked) {
  const acts = {
    filters: filtersInWords(),
    looking: asked ? panel.looking : null,
    compare: (hit) => compare(hit, asked ? panel.film : null, acts),
    searchWith: (found) => searchArchived(studyPath(found.study_instance_uid)),
    more: (cursor) => json("v1/search/page", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ cursor }) }),
    viewer: model.viewer_url,
  };
  const warnings = reply.warnings.map(({ detail }) => element("p", asked ? asked.inWords(detail) : detail, { class: "warning" }));
  const list = reply.hits.length ? new HitList(reply, acts).node : element("p", "No study fits. Are the filters too narrow?");
  const simulated = /simulated/.test(model.provenance.trained_on) ? element("p", SIMULATED, { class: "warning" }) : "";
  byId("results").replaceChildren(...warnings, simulated, list);
  const found = `${reply.hits.length} ${reply.hits.length === 1 ? "study" : "studies"} found.`;
  announce(warnings.length ? `${found} There ${warnings.length === 1 ? "is a warning" : "are warnings"}.` : found);
}

function tellProblem(problem, remedy = null) {
  byId("problem").replaceChildren(problem ? element("p", problem.describe(), { class: "problem" }) : "", remedy ?? "");
  if (problem) announce("");
}

// The study.

function showPanel() {
  panel ??= new StudyPanel({ clear: clearStudy, choose: (dropped, chosen) => perform((signal) => takeStudy(dropped, chosen, signal), "Reading the files…") });
  byId("query").hidden = false;
  byId("choose").hidden = true;
  byId("phrase-label").textContent = "Like this study, but with";
  byId("without-field").hidden = false;
  return panel;
}

/** As the page was at first. */
function clearStudy() {
  task?.abort();
  task = study = panel = null;
  byId("query").hidden = true;
  byId("query").replaceChildren();
  byId("choose").hidden = false;
  byId("work").hidden = true;
  byId("phrase-label").textContent = "Find studies that show";
  byId("without-field").hidden = true;
  for (const field of ["phrase", "without"]) byId(field).value = "";
  byId("results").replaceChildren();
  byId("examples").hidden = false;
  announce("");
  tellProblem(null);
  history.replaceState(null, "", location.pathname); // reloaded, the page asks what it shows and nothing else
  byId("choose-files").focus();
}

function take(files) {
  if (!files.length) return null;
  return perform(async (signal) => {
    byId("work").hidden = false;
    const dropped = await readDropped(files, (read, all) => {
      byId("progress").value = read / all;
      byId("progress-text").textContent = `Reading the files: ${read} of ${all}`;
    });
    if (signal.aborted) return;
    if (!dropped.studies.length) {
      const why = dropped.skipped.slice(0, 5).map(({ name, detail }) => `${name}: ${detail}`).join(" ");
      throw new Problem({ title: "No radiograph among the files", detail: why || "Nothing was found." });
    }
    await takeStudy(dropped, dropped.studies[0], signal);
  }, "Reading the files…");
}

async function takeStudy(dropped, chosen, signal) {
  const opened = await DroppedStudy.open(dropped, chosen, model);
  if (!signal.aborted) await askWith(opened, location.pathname, signal);
}

/** By where the service has it, of its StudyInstanceUID or accession number. */
function searchArchived(path) {
  return perform(async (signal) => {
    const found = await json(path, { signal });
    if (signal.aborted) return;
    window.scrollTo({ top: 0 });
    await askWith(new ArchivedStudy(found.study), `#study=${encodeURIComponent(found.study.study_instance_uid)}`, signal);
  }, "Looking for the study…");
}

const studyPath = (uid) => `v1/studies/${encodeURIComponent(uid)}`;

/** Another study, another question: nothing that was asked of the one before goes along. */
function askWith(found, address, signal) {
  study = found;
  for (const field of ["phrase", "without"]) byId(field).value = "";
  history.replaceState(null, "", address);
  return ask(signal);
}

// What the reader does.

for (const kind of ["dragenter", "dragover"]) {
  document.body.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.body.addEventListener("dragleave", (event) => event.relatedTarget || byId("drop").classList.remove("over"));
document.body.addEventListener("drop", async (event) => {
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
  if (!study) history.replaceState(null, "", location.pathname); // what is typed stays out of the browser's history
  search();
});
for (const example of document.querySelectorAll("#examples button")) {
  example.addEventListener("click", () => {
    byId("phrase").value = example.textContent;
    byId("ask").requestSubmit();
  });
}
byId("stop").addEventListener("click", () => {
  task?.abort();
  task = null;
  byId("work").hidden = true;
  announce("Stopped.");
});
byId("open-card").addEventListener("click", async () => {
  try {
    model ??= await begin();
    openCard(model);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tellProblem(error);
  }
});
byId("open-help").addEventListener("click", openHelp);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !shortcutsAreOn()) return;
  if (event.target.closest("input, select, textarea, dialog, .film, .report")) return;
  const acts = {
    "/": () => byId("phrase").focus(),
    u: () => byId("choose-files").click(),
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

// The beginning. An address can carry the question, after the # so that no server or proxy logs it:
// #study=UID and #accession=NUMBER (a PACS's links), #text=PHRASE.

function followAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const [uid, accession, text] = ["study", "accession", "text"].map((name) => asked.get(name));
  if (!uid && !accession && !text) return perform(async () => announce(""), "");
  const address = location.hash;
  clearStudy(); // nothing of the patient before stays beside this one
  history.replaceState(null, "", address);
  if (uid) return searchArchived(studyPath(uid));
  if (accession) return searchArchived(`v1/studies?${new URLSearchParams({ accession_number: accession })}`);
  byId("phrase").value = text;
  return search();
}

placeKeyForm(document.querySelector("main"));
if (window.OffscreenCanvas && window.DecompressionStream) {
  window.addEventListener("hashchange", followAddress);
  followAddress();
} else {
  tellProblem(new Problem({ title: "The browser is too old for this page", detail: "Use a Firefox, Chrome, Edge or Safari of 2024 or later." }));
}
