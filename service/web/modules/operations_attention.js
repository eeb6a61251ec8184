// What an administrator should do something about, of all that the figures say. The worst comes first.

import { element } from "./elements.js";
import { bytes, count, moment, plural, span, withCode } from "./operations_text.js";

const BUILD_WHEN = 20_000; // studies beside the generation: a millisecond of every search
const OLD_BACKUP_S = 8 * 86400;
const WAITING_S = 60;
const RANK = { problem: 0, warning: 1 };

/** [{level: "problem" | "warning", text, what}] of a reply of /v1/operations; `what` is what to do, as nodes. */
export function attentionTo(reply) {
  const found = [...ofParts(reply), ...ofDisk(reply), ...ofIndex(reply), ...ofEmbedding(reply), ...ofJobs(reply), ...ofBackups(reply)];
  return found.sort((a, b) => RANK[a.level] - RANK[b.level]);
}

/** The list, or the word that there is nothing. */
export function attentionList(found) {
  if (!found.length) return [element("li", undefined, { class: "good" }, element("strong", "All well"), " Nothing needs attention.")];
  return found.map(({ level, text, what }) => {
    const item = element("li", undefined, { class: level }, element("strong", level === "problem" ? "Problem" : "Warning"));
    item.append(" ", text, " ", ...what);
    return item;
  });
}

const command = (text) => element("code", text);
const age = (reply, text) => (new Date(reply.at) - new Date(text)) / 1000;

function problem(text, ...what) {
  return { level: "problem", text, what };
}

function warning(text, ...what) {
  return { level: "warning", text, what };
}

function* ofParts(reply) {
  for (const [name, part] of Object.entries(reply)) {
    if (!part?.problem || part.problem.slug === "counting") continue;
    if (name === "searched") yield problem(`Searches: ${part.problem.title}.`, "The log of the service says why.");
    else yield problem(`The figures of “${name}” cannot be read: ${part.problem.title}.`);
  }
}

function* ofDisk({ disk: { value } }) {
  if (!value) return;
  const left = `${bytes(value.free)} of ${bytes(value.total)} are free.`;
  if (value.free < value.kept_free) {
    yield problem(`The disk is nearly full, ${left}`, `Below ${bytes(value.kept_free)} nothing that is sent or fetched is stored. Older generations go with `, command("alta index prune --keep 1"), ".");
  } else if (value.free < 2 * value.kept_free || value.free < value.total / 20) {
    yield warning(`The disk fills up, ${left}`, `Below ${bytes(value.kept_free)} nothing more is taken in.`);
  }
}

function* ofIndex({ generations: { value }, process }) {
  if (!value) return;
  const { live, others, last_verification: verified } = value;
  if (!live) {
    yield problem("No index is live, so nothing is found.", command("alta embed"), ", then ", command("alta index build"), ".");
    return;
  }
  if (live.model_fingerprint !== process.encoders.fingerprint) {
    yield warning("The live generation is of other encoders than those in use.", "The service loads its encoders; if this stays, the log says why.");
  }
  if (verified?.state === "failed") {
    yield problem(`Index files were found damaged: ${verified.error?.title ?? "see the job"}.`, command("alta index build"), " makes them again from the database.");
  }
  const newest = others[0];
  if (newest?.state === "failed" && newest.id > live.id) {
    yield problem(`The last build, generation ${newest.id}, failed.`, newest.detail ?? "");
  }
  if (Math.max(value.image_beside, value.report_beside) > BUILD_WHEN) {
    yield warning(`${count(value.image_beside)} studies are searched beside the index, which slows every search.`, "Build it: ", command("alta index build"), ".");
  }
}

function* ofEmbedding({ embedding: { value }, jobs }) {
  if (!value) return;
  const working = jobs.value?.under_way.some((job) => ["embed", "reindex", "ingest"].includes(job.kind));
  const missing = [[value.image.missing, "study", "studies"], [value.report.missing, "report"]].filter(([number]) => number);
  if (missing.length && !working) {
    const words = missing.map((each) => plural(...each)).join(" and ");
    yield warning(`Not embedded yet, so not found: ${words}.`, "Ask for the job “embed”, or keep ", command("alta worker --watch"), " running.");
  }
  const failed = [...value.image.failed, ...value.report.failed].reduce((sum, reason) => sum + reason.count, 0);
  if (failed) yield warning(`${plural(failed, "embedding")} failed.`, "They are tried again with the job “embed” and “also those that failed”.");
}

function* ofJobs(reply) {
  const value = reply.jobs.value;
  if (!value) return;
  if (value.waiting_since && !value.running && age(reply, value.waiting_since) > WAITING_S) {
    yield problem(`No worker takes a job, and the oldest of ${plural(value.queued, "job")} waits for ${span(age(reply, value.waiting_since))}.`, "Start one: ", command("alta worker --watch"), ".");
  }
  const last = value.ended[0];
  if (last?.state === "failed") yield warning(`The last job, ${last.kind}, failed:`, ...withCode(last.detail ?? last.error), " ", command(`alta jobs show ${last.id}`), " tells all.");
}

function* ofBackups(reply) {
  const value = reply.backups.value;
  if (!value) return;
  if (!value.last_at) {
    if (reply.archive.value?.studies) yield warning("No backup is known.", "Make one: ", command("alta db backup FILE"), ". Where the database server makes its own, nothing need be done.");
  } else if (age(reply, value.last_at) > OLD_BACKUP_S) {
    yield warning("The last backup is of ", moment(value.last_at), ". Make one: ", command("alta db backup FILE"), ".");
  }
  if (value.missing) yield warning(`Not where it was made: ${plural(value.missing, "backup")}.`, command("alta db backups"), " lists them.");
}
