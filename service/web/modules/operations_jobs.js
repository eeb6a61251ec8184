// Jobs: those under way with their progress, those that ended, workers; asking for one and calling one off.

import { json, Problem } from "./call.js";
import { byId, button, element, toast } from "./elements.js";
import { count, moment, plural, span, state, table, withCode } from "./operations_text.js";

const ASKED = {
  embed: {
    label: "Embed what is missing",
    text: "Every study and report without an embedding of the encoders in use is embedded. It may take hours, can be called off, and goes on from there.",
    fields: [["retry_failed", "Also those that failed"]],
  },
  "index-build": {
    label: "Build the index",
    text: "A new generation is built beside the live one, checked, and switched to. Searches go on meanwhile.",
    fields: [],
  },
  verify: {
    label: "Verify the index files",
    text: "The files of every generation that is kept are compared with the hashes they were written with.",
    fields: [],
  },
};

const INGEST = {
  label: "Take studies in…",
  text: "A folder, zip file or manifest that lies on the worker's machine. What is there already is not taken in twice.",
  fields: [["retry_refused", "Also files that were refused"]],
};

/** The buttons that ask for a job. changed: called once one was. */
export function askForJobs({ receives, ingest_roots: roots }, changed) {
  if (!receives) {
    const text = "This service takes no jobs (ALTA_RECEIVE=1 lets it): ";
    return [element("p", text, { class: "quiet" }, element("code", "alta embed"), ", ", element("code", "alta index build"))];
  }
  const kinds = roots.length ? { ...ASKED, ingest: INGEST } : ASKED;
  return Object.entries(kinds).map(([kind, asked]) =>
    button(asked.label, () => confirmJob(kind, asked, roots, changed), { class: "second", id: `ask-${kind}` }),
  );
}

export function jobsPanel(value, receives, at, changed) {
  const shown = [];
  if (value.under_way.length) {
    const rows = value.under_way.map((job) => [
      job.kind,
      progress(job),
      element("span", undefined, {}, "begun ", moment(job.started_at), element("small", heard(job, at))),
      receives ? cancelButton(job, changed) : "",
    ]);
    shown.push(table("Under way", ["Kind", "Progress", "Since", ["", "act"]], rows));
  } else {
    shown.push(element("p", "No job is under way."));
  }
  const told = [`${count(value.queued)} waiting`, `${count(value.succeeded)} succeeded`, `${count(value.failed)} failed`, `${count(value.cancelled)} cancelled in 90 days`];
  shown.push(element("p", told.join(", ") + ".", { class: "quiet small" }));
  if (value.ended.length) {
    const rows = value.ended.map((job) => [job.kind, ended(job), outcome(job), moment(job.finished_at)]);
    shown.push(table("The last that ended", ["Kind", "State", "Outcome", "Ended"], rows));
  }
  if (value.workers.length) {
    const busy = new Map(value.under_way.map((job) => [job.id, job.kind]));
    const rows = value.workers.slice(0, 10).map((each) => [each.name, each.job_id ? `works on ${busy.get(each.job_id) ?? "a job"}` : "had a job", moment(each.last_seen_at)]);
    shown.push(table("Workers heard of within a day", ["Host and process", "What", "Heard of"], rows));
  } else {
    shown.push(element("p", "No worker was heard of within a day. One without a job is not seen.", { class: "quiet small" }));
  }
  return shown;
}

function progress(job) {
  if (!job.total) return job.done ? `${count(job.done)} done` : "begins";
  const words = `${count(job.done)} of ${count(job.total)}, ${Math.floor((100 * job.done) / job.total)} %`;
  const bar = element("progress", undefined, { max: job.total, value: job.done, "aria-label": `Progress of ${job.kind}: ${words}` });
  return element("div", undefined, {}, bar, element("small", words));
}

function heard(job, at) {
  const silent = (new Date(at) - new Date(job.heartbeat_at)) / 1000;
  const attempt = job.attempts > 1 ? `, attempt ${job.attempts}` : "";
  return (silent > 30 ? `its worker is silent for ${span(silent)}` : "its worker is heard of") + attempt;
}

const ended = (job) => state(job.state);

function outcome(job) {
  if (job.error) return element("span", undefined, {}, ...withCode(job.detail ?? job.error), element("small", undefined, {}, element("code", `alta jobs show ${job.id}`)));
  const counts = Object.entries(job.result ?? {}).map(([name, value]) => [name.replaceAll("_", " "), inWords(value)]);
  return counts.filter(([, words]) => words).map((pair) => pair.join(" ")).join(", ") || "–";
}

/** A number, a list, or counts by reason; "" for what is nothing to read. */
function inWords(value) {
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : value.toFixed(3);
  if (Array.isArray(value)) return value.join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${inWords(each)}`).join(", ");
  return value ?? "";
}

function cancelButton(job, changed) {
  if (job.cancel_requested) return "is called off";
  const label = `Call off ${job.kind}`;
  return button("Call off", () => confirmCancel(job, changed), { class: "second", id: `cancel-${job.id}`, "aria-label": label });
}

function confirmJob(kind, { label, text, fields }, roots, changed) {
  const inputs = fields.map(([name, words]) => element("label", undefined, { class: "tick" }, element("input", undefined, { type: "checkbox", name }), words));
  if (kind === "ingest") {
    const path = { name: "path", type: "text", required: true, value: roots[0], list: "ingest-roots", autocomplete: "off", maxlength: "4096" };
    const reports = { name: "reports", type: "text", autocomplete: "off", maxlength: "4096" };
    inputs.unshift(
      element("label", `Path, under ${roots.join(" or ")}`, {}, element("input", undefined, path)),
      element("label", "Reports beside it, if any: a file or folder", {}, element("input", undefined, reports)),
      element("datalist", undefined, { id: "ingest-roots" }, ...roots.map((root) => element("option", undefined, { value: root }))),
    );
  }
  confirm(label.replace("…", ""), text, inputs, "Ask for it", async (form) => {
    const asked = { kind };
    for (const input of form.querySelectorAll("input")) {
      if (input.type === "checkbox") asked[input.name] = input.checked;
      else if (input.value.trim()) asked[input.name] = input.value.trim();
    }
    await json("v1/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });
    toast(`Asked for: ${label.replace("…", "")}. A worker does it.`);
    changed();
  });
}

function confirmCancel(job, changed) {
  const text = `It ends after the batch under way; what is done stays done (${plural(job.done, "unit")}).`;
  confirm(`Call off ${job.kind}?`, text, [], "Call it off", async () => {
    await json(`v1/jobs/${encodeURIComponent(job.id)}`, { method: "DELETE" });
    toast(`${job.kind} is called off.`);
    changed();
  });
}

/** A dialog; `act` is carried out where it is confirmed, and what it throws is told there. */
function confirm(title, text, inputs, label, act) {
  const dialog = byId("confirm");
  const told = element("p", "", { role: "alert", class: "problem", hidden: true });
  const yes = element("button", label, { type: "submit" });
  const form = element("form", undefined, {},
    element("h2", title, { id: "confirm-title" }), element("p", text), ...inputs, told,
    element("div", undefined, { class: "row" }, button("Leave it", () => dialog.close(), { class: "second" }), yes));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    try {
      await act(form);
      dialog.close();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      told.textContent = error.describe();
      told.hidden = false;
    } finally {
      yes.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}
