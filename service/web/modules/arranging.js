// Files to a query: which are one study, which an earlier one of the same patient, which are neither.

import { readHeader } from "./dicom_header.js";
import { ZipError } from "./zip.js";

// Kept from being sent when there are others: whole CT series lie on a CD beside a radiograph.
const RADIOGRAPHS = ["CR", "DX", "DR", "RG", ""];

/**
 * Groups files by study, the newest first. Pictures (JPEG, PNG) without a header are one study of their own; where there
 * are DICOM studies they are left out.
 *
 * @param files things to open, of `opened`. @param {() => void} tick called after each.
 * @returns {Promise<{studies: Study[], skipped: {name: string, detail: string}[]}>}
 * A Study has `label`, `patient`, `moment`, `date` and `files`, each as given with its `header`.
 */
export async function arrange(files, tick = () => {}) {
  const skipped = [];
  const usable = [];
  for (const each of files) {
    const { header, detail } = await examine(each, files.length === 1);
    if (detail) skipped.push({ name: each.name, detail });
    else usable.push({ ...each, header });
    tick();
  }
  const groups = grouped(withoutCopies(usable, skipped));
  const pictures = groups.get("picture");
  if (pictures && groups.size > 1) {
    groups.delete("picture");
    for (const { name } of pictures) skipped.push({ name, detail: "A picture beside a DICOM study." });
  }
  const studies = [...groups.values()].map(describe).sort((a, b) => (b.moment > a.moment ? 1 : b.moment < a.moment ? -1 : 0));
  return { studies, skipped };
}

/** A file's header, null of a picture; or why it is left out. A lone file is for the service to judge. */
async function examine(file, lone) {
  try {
    if (!file.size) return { detail: "The file is empty." };
    const head = await file.head();
    const header = await readHeader(head);
    if (lone) return { header };
    if (!header && !(await isPicture(head))) return { detail: "Neither DICOM, JPEG nor PNG." };
    if (header?.isDirectory) return { detail: "The list of contents of a disc (DICOMDIR), no image." };
    if (header && !RADIOGRAPHS.includes(header.modality)) return { detail: `Not a radiograph: modality ${header.modality}.` };
    return { header };
  } catch (error) {
    return { detail: error instanceof ZipError ? error.message : "The file cannot be read." };
  }
}

async function isPicture(head) {
  const [first, second] = new Uint8Array(await head.slice(0, 2).arrayBuffer());
  return (first === 0xff && second === 0xd8) || (first === 0x89 && second === 0x50);
}

/** The newest earlier study of the patient of `chosen`, or null. */
export function priorOf(chosen, studies) {
  if (!chosen.patient || !chosen.moment) return null;
  return studies.find((study) => study !== chosen && study.patient === chosen.patient && study.moment && study.moment < chosen.moment) ?? null;
}

function grouped(files) {
  const groups = new Map();
  files.forEach((each, at) => {
    const study = each.header ? each.header.study || `unknown ${at}` : "picture"; // without a UID nobody knows what belongs together
    groups.set(study, [...(groups.get(study) ?? []), each]);
  });
  return groups;
}

function withoutCopies(files, skipped) {
  const seen = new Set();
  return files.filter(({ name, header }) => {
    if (!header?.sopInstance) return true;
    if (seen.has(header.sopInstance)) {
      skipped.push({ name, detail: "The same image once more." });
      return false;
    }
    return seen.add(header.sopInstance);
  });
}

function describe(files) {
  const header = files[0].header;
  const date = header?.date ?? "";
  const written = /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : "unknown date";
  const images = files.length === 1 ? "1 file" : `${files.length} files`;
  return {
    files,
    patient: header?.patient ?? "",
    moment: date ? date + (header?.time ?? "") : "",
    date: written,
    label: header ? `Study of ${written}, ${images}` : images,
  };
}
