// The administrator's page: asks for the figures every few seconds while it is looked at.

import { json, placeKeyForm, Problem } from "./call.js";
import { announce, byId, button, element } from "./elements.js";
import { attentionList, attentionTo } from "./operations_attention.js";
import { askForJobs, jobsPanel } from "./operations_jobs.js";
import {
  archivePanel, backupsPanel, diskPanel, embeddingPanel, generationsPanel, processPanel, refusedPanel, throughputPanel,
} from "./operations_panels.js";
import { count, moment } from "./operations_text.js";

const EVERY_MS = 5000;
const SOON_MS = 1500;
const LONGEST_MS = 60_000; // between two tries of a service that does not answer
const PATIENCE_MS = 15_000;
const RATED_MS = 300_000; // over which the rate of requests is taken

let timer;
let asking = false;
let failures = 0;
let paused = false;
let last = null; // the reply on the page
const shown = new Map(); // what a panel shows, as text: one that is as before is left alone, with the reader's place in it
const samples = []; // [moment, requests answered]

async function refresh() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const control = new AbortController();
  const watch = watchdog(control);
  try {
    const reply = await json("v1/operations", { signal: control.signal });
    if (failures) announce("The service answers again.");
    failures = 0;
    last = reply;
    show(reply);
  } catch (error) {
    failures += 1;
    tell(error);
  } finally {
    clearInterval(watch);
    asking = false;
    schedule();
  }
}

/** Ends a call that is not answered; not while the reader looks for a key. */
function watchdog(control) {
  let waited = 0;
  return setInterval(() => {
    if (byId("with-key").hidden) waited += 1000;
    if (waited >= PATIENCE_MS) control.abort();
  }, 1000);
}

/** After something was asked for: now, and once more when the service reads its figures anew. */
async function refreshTwice() {
  await refresh();
  clearTimeout(timer);
  timer = setTimeout(refresh, SOON_MS);
}

function schedule() {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  timer = setTimeout(refresh, waits());
}

const waits = () => (failures ? Math.min(EVERY_MS * 2 ** failures, LONGEST_MS) : EVERY_MS);

function show(reply) {
  const focused = document.activeElement?.id;
  const { process } = reply;
  document.body.classList.remove("stale");
  byId("problem").replaceChildren();
  byId("as-of").replaceChildren("As of ", moment(reply.at), paused ? ". Paused." : `, read every ${EVERY_MS / 1000} s.`);
  place("attention-list", () => attentionList(attentionTo(reply)));
  place("jobs-ask", () => askForJobs(process, refreshTwice), [process.receives, process.ingest_roots]);
  part("archive", reply, archivePanel);
  part("embedding", reply, embeddingPanel);
  part("generations", reply, (value) => generationsPanel(value, reply.searched.value), [reply.searched.value]);
  part("jobs", reply, (value) => jobsPanel(value, process.receives, reply.at, refreshTwice));
  part("throughput", reply, throughputPanel);
  part("refused", reply, refusedPanel);
  part("disk", reply, (value) => diskPanel(value, reply.sizes.value), [reply.sizes.value]);
  part("backups", reply, backupsPanel);
  place("process", () => processPanel(process, rateOf(reply), reply.at));
  document.querySelector("main").setAttribute("aria-busy", "false");
  if (focused && document.activeElement !== byId(focused)) byId(focused)?.focus();
}

/** One part of the reply in its panel, with why it is not newer. */
function part(name, reply, panel, more = []) {
  const { value, problem, as_of: asOf } = reply[name];
  const old = asOf && new Date(reply.at) - new Date(asOf) > 30_000 ? asOf : null;
  place(
    name,
    () => {
      const nodes = value ? panel(value) : [];
      if (problem?.slug === "counting") nodes.unshift(element("p", "Being counted for the first time…", { class: "quiet" }));
      else if (problem) nodes.unshift(element("p", `Cannot be read now: ${problem.title}.`, { class: "problem part-problem" }));
      if (old) nodes.unshift(element("p", "Counted at ", { class: "quiet part-problem" }, moment(old)));
      return nodes;
    },
    [value, problem, old, ...more],
  );
}

/** Replaces what is in an element, unless it was made of the same before. */
function place(id, make, of = null) {
  const text = of && JSON.stringify(of);
  if (text && shown.get(id) === text) return;
  shown.set(id, text);
  byId(id).replaceChildren(...make().filter(Boolean));
}

function tell(error) {
  const scope = error instanceof Problem && error.status === 403;
  const problem = error instanceof Problem ? error : new Problem();
  if (!(error instanceof Problem) && error.name !== "AbortError") console.error(error);
  document.body.classList.add("stale");
  const lines = [element("p", scope ? "This key may not see how the installation is: it needs the scope admin." : problem.describe(), { class: "problem" })];
  if (scope) lines.push(button("Use another key", useAnotherKey));
  else if (last) lines.push(element("p", "The figures below are those of ", { class: "quiet" }, moment(last.at), ", before it stopped answering."));
  byId("problem").replaceChildren(...lines);
  const again = paused ? "Paused." : `Tried again every ${waits() / 1000} s.`;
  byId("as-of").replaceChildren(...(last ? ["Last read ", moment(last.at), ". "] : ["Not read yet. "]), again);
}

function useAnotherKey() {
  sessionStorage.removeItem("key");
  failures = 0;
  refresh();
}

/** Requests a minute that this process answered, in words; null before there are two readings of the same process. */
function rateOf({ at, process }) {
  const now = new Date(at);
  const answered = Object.values(process.requests).reduce((sum, number) => sum + number, 0);
  if (samples.length && (samples.at(-1)[1] > answered || samples[0][2] !== process.started_at)) samples.length = 0;
  samples.push([now, answered, process.started_at]);
  while (samples.length > 2 && now - samples[0][0] > RATED_MS) samples.shift();
  const minutes = (now - samples[0][0]) / 60_000;
  return minutes < 0.9 ? null : `${count(Math.round((answered - samples[0][1]) / minutes))} a minute in the last ${Math.round(minutes)} min`;
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    clearTimeout(timer);
    byId("as-of").append(" Paused.");
  } else refresh();
}

placeKeyForm(document.querySelector("main"));
byId("refresh").addEventListener("click", refresh);
byId("pause").addEventListener("click", pause);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : paused || refresh()));
refresh();
