// The study that is asked with: from what was dropped to what the service saw in it.

import { arrange, priorOf } from "./arranging.js";
import { blob, Problem, send } from "./call.js";
import { announce, button, byId, element } from "./elements.js";
import { findingsPanel } from "./findings.js";
import { pictureOf } from "./hits.js";
import { viewerLink } from "./links.js";
import { unpacked } from "./dropping.js";
import { Viewer } from "./viewer.js";

const SIZE = 1024; // px

/** Reads what was dropped: studies, the newest first, and what is left out with why. */
export async function readDropped(files) {
  const { files: found, problems } = await unpacked(files);
  const { studies, skipped } = await arrange(found);
  return { studies, skipped: [...problems, ...skipped] };
}

/** A study of files, ready to be sent. */
export class DroppedStudy {
  constructor(studies, chosen, skipped, limits) {
    this.studies = studies;
    this.chosen = chosen;
    this.prior = priorOf(chosen, studies);
    const room = limits.max_files - Math.min(chosen.files.length, limits.max_files);
    this.files = chosen.files.slice(0, limits.max_files);
    this.priorFiles = this.prior?.files.slice(0, room) ?? [];
    const over = [...chosen.files.slice(limits.max_files), ...(this.prior?.files.slice(room) ?? [])];
    const other = studies.filter((study) => study !== chosen && study !== this.prior).flatMap((study) => study.files);
    this.skipped = [
      ...skipped,
      ...over.map(({ name }) => ({ name, detail: `More than the ${limits.max_files} images that one query may have.` })),
      ...other.map(({ name }) => ({ name, detail: "Of another study." })),
    ];
    const size = [...this.files, ...this.priorFiles].reduce((sum, { file }) => sum + file.size, 0);
    if (size > limits.max_upload_mb * 2 ** 20) {
      throw new Problem({ title: "The study is too large", detail: `It has ${Math.ceil(size / 2 ** 20)} MiB; the service takes ${limits.max_upload_mb} at once. Choose fewer images.` });
    }
  }

  addTo(form) {
    // File names may be about a patient, and are not sent.
    for (const { file } of this.files) form.append("files", file, "image");
    for (const { file } of this.priorFiles) form.append("prior_files", file, "image");
  }

  nameOf(file) {
    return (file.field === "files" ? this.files : this.priorFiles)[file.position]?.name ?? `File ${file.position + 1}`;
  }

  async picture(reply, view, signal) {
    const used = reply.query.files.find(({ slot }) => slot === `current_${view}`);
    if (!used) return null;
    return rendering(this.files[used.position].file, signal);
  }

  /** A warning of the service, with the file's name where that counts. */
  inWords(detail) {
    return detail.replace(/Image (\d+) of `(files|prior_files)`/, (_, position, field) => this.nameOf({ field, position: Number(position) }));
  }
}

function rendering(file, signal) {
  const form = new FormData();
  form.append("file", file, "image");
  form.append("size", SIZE);
  return blob("v1/rendering", { method: "POST", body: form, signal });
}

/** A study of the archive. */
export class ArchivedStudy {
  constructor(study) {
    this.study = study;
    this.studies = [];
    this.skipped = [];
  }

  addTo(form) {
    form.append("study_instance_uid", this.study.study_instance_uid);
  }

  async picture(_, view) {
    return pictureOf(this.study, SIZE, view);
  }

  inWords(detail) {
    return detail;
  }
}

/** What stands at the left once a study was asked with. */
export class StudyPanel {
  constructor(acts) {
    this.acts = acts;
    this.viewer = new Viewer("The study you asked with");
    this.told = element("div");
    this.findings = element("div");
    this.heading = element("p", "", { class: "quiet" });
    const tools = element("div", undefined, { class: "row" }, this.heading, button("Another study", () => acts.clear(), { class: "second" }));
    this.node = byId("query");
    this.node.replaceChildren(tools, this.viewer.node, this.told, this.findings);
  }

  /** `study` was sent; the reply will follow. */
  waitFor(study) {
    this.heading.textContent = study.chosen?.label ?? `Archived study of ${study.study?.study_date ?? "unknown date"}`;
    this.viewer.tell("");
    this.findings.replaceChildren();
    this.told.replaceChildren(whichStudy(study, this.acts) ?? "");
  }

  async show(study, reply, template, signal) {
    const views = ["frontal", "lateral"].filter((view) => reply.query.slots.includes(`current_${view}`));
    this.told.replaceChildren(
      whichStudy(study, this.acts) ?? "",
      viewTabs(views, (view) => this.showView(study, reply, view, signal)) ?? "",
      recognised(study, reply),
      (study.study && viewerLink(template, study.study)) ?? "",
    );
    if (reply.zero_shot) this.findings.replaceChildren(findingsPanel(reply.zero_shot, this.acts.look));
    await this.showView(study, reply, "frontal", signal);
  }

  async showView(study, reply, view, signal) {
    const picture = study.picture(reply, view, signal);
    if (view === "frontal") this.film = picture; // PNG, once it has come
    try {
      const png = await picture;
      if (png && !signal.aborted) await this.viewer.show(png, `Your study, ${view}`);
    } catch (error) {
      if (error instanceof Problem) this.viewer.tell(error.detail);
      else if (error.name !== "AbortError") throw error;
    }
  }

  /** A study that could not be asked with: its first picture, if there is one, and what was wrong with each file. */
  async refuse(study, problem, signal) {
    const files = problem.more.files ?? [];
    this.told.replaceChildren(whichStudy(study, this.acts) ?? "", study.files ? fileList(study, files) : "");
    if (!study.files) return;
    announce("The study cannot be searched with.");
    try {
      await this.viewer.show(await rendering(study.files[0].file, signal), "Your study, not searched with");
    } catch (error) {
      if (!(error instanceof Problem) && error.name !== "AbortError") throw error;
      this.viewer.tell("No picture.");
    }
  }
}

function whichStudy(study, acts) {
  if (study.studies.length < 2) return null;
  const select = element("select", undefined, { onchange: () => acts.choose(study.studies[select.selectedIndex]) });
  select.append(...study.studies.map((each) => element("option", each.label, { selected: each === study.chosen })));
  return element("label", `${study.studies.length} studies were dropped. Search with `, {}, select);
}

function viewTabs(views, show) {
  if (views.length < 2) return null;
  const select = element("select", undefined, { onchange: () => show(select.value) });
  select.append(...views.map((view) => element("option", view, { value: view })));
  return element("label", "View ", {}, select);
}

const PLACES = { current_frontal: "frontal", current_lateral: "lateral", prior_frontal: "prior, frontal", prior_lateral: "prior, lateral" };
const SOURCES = { header: "by its header", classifier: "by its picture", client: "as named", assumed: "assumed: the picture does not tell" };

function recognised(study, reply) {
  const { query } = reply;
  const prior = { archive: "The patient's prior study was found in the archive and read as well.", uploaded: "The prior study that was sent is read as well." }[query.prior_source]
    ?? "No prior study of this patient was found; none is read.";
  const list = study.files ? fileList(study, query.files) : element("p", `Read: ${query.slots.map((slot) => PLACES[slot]).join(", ")}.`);
  return element("section", undefined, { class: "recognised", "aria-label": "What was recognised" }, element("h3", "What was read"), list, query.from_archive ? null : element("p", prior, { class: "quiet" }));
}

function fileList(study, files) {
  const list = element("ul", undefined, { class: "files" });
  for (const file of files) {
    const used = file.status === "used";
    const text = used ? `${PLACES[file.slot]} (${[file.view_position, SOURCES[file.view_source]].filter(Boolean).join(", ")})` : `${file.status === "refused" ? "refused" : "not used"}: ${file.detail ?? ""}`;
    list.append(item(study.nameOf(file), text, used ? "used" : file.status));
  }
  list.append(...leftOut(study.skipped));
  return list;
}

/** One line for each reason: a disc has hundreds of files that are left out alike. */
function leftOut(skipped) {
  const byReason = new Map();
  for (const { name, detail } of skipped) byReason.set(detail, [...(byReason.get(detail) ?? []), name]);
  return [...byReason].map(([detail, names]) => {
    const title = names.length === 1 ? names[0] : `${names.length} files: ${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}`;
    return item(title, `left out: ${detail}`, "unused");
  });
}

const item = (name, text, kind) => element("li", undefined, { class: kind }, element("span", name, { class: "file-name" }), ` ${text}`);

/** Sends a search and tells how far it is. */
export function sendSearch(form, signal) {
  const bar = byId("progress");
  return send(
    "v1/search",
    form,
    (share) => {
      if (share < 1) {
        bar.value = share;
        byId("progress-text").textContent = `Sending: ${Math.round(100 * share)} %`;
      } else {
        bar.removeAttribute("value");
        byId("progress-text").textContent = "Reading the images and searching…";
      }
    },
    signal,
  );
}
