// The study that is asked with: from what was dropped to what the service saw in it.

import { arrange, priorOf } from "./arranging.js";
import { blob, Problem, send } from "./call.js";
import { announce, button, byId, element } from "./elements.js";
import { findingsPanel } from "./findings.js";
import { pictureOf } from "./hits.js";
import { viewerLink } from "./links.js";
import { Looking } from "./looking.js";
import { opened } from "./dropping.js";
import { Viewer } from "./viewer.js";
import { ZipError } from "./zip.js";

const SIZE = 1024; // px
const MIB = 2 ** 20;

/** Reads what was dropped: studies, the newest first, and what is left out with why. */
export async function readDropped(files, progress) {
  const { files: found, problems } = await opened(files);
  let read = 0;
  const { studies, skipped } = await arrange(found, () => progress((read += 1), found.length));
  return { studies, skipped: [...problems, ...skipped] };
}

/** A study of files, ready to be sent. */
export class DroppedStudy {
  /** Opens the files of one of the studies of a drop, and of its prior. Throws Problem. */
  static async open(dropped, chosen, limits) {
    const study = new DroppedStudy();
    const prior = priorOf(chosen, dropped.studies);
    const files = chosen.files.slice(0, limits.max_files);
    const priorFiles = prior?.files.slice(0, limits.max_files - files.length) ?? [];
    const size = [...files, ...priorFiles].reduce((sum, file) => sum + file.size, 0);
    if (size > limits.max_upload_mb * MIB) {
      throw new Problem({
        title: "The study is too large",
        detail: `It has ${Math.ceil(size / MIB)} MiB; the service takes ${limits.max_upload_mb} at once. Choose fewer images.`,
      });
    }
    const left = (sent, all) => (all ?? []).filter((file) => !sent.includes(file));
    const over = [...left(files, chosen.files), ...left(priorFiles, prior?.files)];
    const others = dropped.studies.filter((each) => each !== chosen && each !== prior).flatMap((each) => each.files);
    Object.assign(study, {
      dropped,
      chosen,
      label: chosen.label,
      skipped: [
        ...dropped.skipped,
        ...over.map(({ name }) => ({ name, detail: `More than the ${limits.max_files} images that one query may have.` })),
        ...others.map(({ name }) => ({ name, detail: "Of another study." })),
      ],
    });
    study.files = await study.read(files);
    study.priorFiles = await study.read(priorFiles);
    if (!study.files.length) throw new Problem({ title: "The study cannot be read", detail: study.skipped.at(-1).detail });
    return study;
  }

  async read(files) {
    const found = [];
    for (const { name, open } of files) {
      try {
        found.push({ name, data: await open() });
      } catch (error) {
        this.skipped.push({ name, detail: error instanceof ZipError ? error.message : "The file cannot be read." });
      }
    }
    return found;
  }

  addTo(form) {
    // File names may be about a patient, and are not sent.
    for (const { data } of this.files) form.append("files", data, "image");
    for (const { data } of this.priorFiles) form.append("prior_files", data, "image");
  }

  nameOf({ field, position }) {
    return (field === "files" ? this.files : this.priorFiles)[position]?.name ?? `File ${position + 1}`;
  }

  async picture(reply, view, signal) {
    const used = reply.query.files.find(({ slot }) => slot === `current_${view}`);
    return used ? rendering(this.files[used.position].data, signal) : null;
  }

  /** A warning of the service, with the file's name where that counts. */
  inWords(detail) {
    return detail.replace(/Image (\d+) of `(files|prior_files)`/, (_, position, field) => this.nameOf({ field, position: Number(position) }));
  }
}

function rendering(data, signal) {
  const form = new FormData();
  form.append("file", data, "image");
  form.append("size", SIZE);
  return blob("v1/rendering", { method: "POST", body: form, signal });
}

/** A study of the archive. */
export class ArchivedStudy {
  constructor(study) {
    this.study = study;
    this.label = `Archived study of ${study.study_date ?? "unknown date"}`;
  }

  addTo(form) {
    form.append("study_instance_uid", this.study.study_instance_uid);
  }

  picture(_, view, signal) {
    return pictureOf(this.study, SIZE, view, signal);
  }

  inWords(detail) {
    return detail;
  }
}

/** What stands at the left once a study was asked with. `acts`: `clear()`, `choose(dropped, chosen)`. */
export class StudyPanel {
  constructor(acts) {
    this.acts = acts;
    this.viewer = new Viewer("The study you asked with");
    this.looking = new Looking([this.viewer]);
    this.told = element("div");
    this.findings = element("div");
    this.heading = element("p", "", { class: "quiet", tabindex: -1 });
    const tools = element("div", undefined, { class: "row" }, this.heading, button("Another study", () => acts.clear(), { class: "second" }));
    byId("query").replaceChildren(tools, this.viewer.node, this.told, this.findings);
  }

  /** `study` is sent; the reply will follow. */
  waitFor(study) {
    this.heading.textContent = study.label;
    this.viewer.tell("");
    byId("study").scrollTop = 0;
    this.findings.replaceChildren();
    this.told.replaceChildren(whichStudy(study, this.acts) ?? "");
    if (document.activeElement === document.body) this.heading.focus(); // what had the focus is gone
  }

  show(study, reply, template, signal) {
    const views = ["frontal", "lateral"].filter((view) => reply.query.slots.includes(`current_${view}`));
    const showView = (view, picture) => this.viewer.load(picture, `Your study, ${view}`, view);
    this.told.replaceChildren(
      whichStudy(study, this.acts) ?? "",
      viewPicker(views, (view) => showView(view, study.picture(reply, view))) ?? "",
      recognised(study, reply),
      (study.study && viewerLink(template, study.study)) ?? "",
    );
    this.findings.replaceChildren(reply.zero_shot ? findingsPanel(reply.zero_shot, this.looking) : "");
    this.film = study.picture(reply, "frontal", signal); // a promise of a PNG
    return showView("frontal", this.film);
  }

  /** A study that could not be asked with: its first picture, where the files are to blame, and what was wrong with each. */
  async refuse(study, problem, signal) {
    const { files } = problem.more;
    this.told.replaceChildren(whichStudy(study, this.acts) ?? "", files && study.files ? fileList(study, files) : "");
    if (!files || !study.files) return;
    announce("The study cannot be searched with.");
    await this.viewer.load(rendering(study.files[0].data, signal), "Your study, not searched with", "unknown");
  }
}

function whichStudy(study, acts) {
  const studies = study.dropped?.studies ?? [];
  if (studies.length < 2) return null;
  const select = element("select");
  select.append(...studies.map((each) => element("option", each.label, { selected: each === study.chosen })));
  const use = button("Use it", () => acts.choose(study.dropped, studies[select.selectedIndex]), { class: "second" });
  return element("div", undefined, { class: "row" }, element("label", `${studies.length} studies were dropped. Search with `, { class: "grow" }, select), use);
}

function viewPicker(views, show) {
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
    const text = used ? `${PLACES[file.slot]} (${[file.view_position, SOURCES[file.view_source]].filter(Boolean).join(", ")})` : `${file.status === "refused" ? "refused" : "not used"}: ${file.detail ?? (file.view ? `it shows a ${file.view} view` : "no use for it")}`;
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
