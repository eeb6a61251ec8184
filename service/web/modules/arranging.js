// Files to a query: which are one study, which an earlier one of the same patient, which are neither.

import { readHeader } from "./dicom_header.js";

// Kept from being sent when there are others: whole CT series lie on a CD beside a radiograph.
const RADIOGRAPHS = ["CR", "DX", "DR", "RG", ""];

/**
 * Groups files by study, the newest first. Pictures (JPEG, PNG) without a header are one study of their own; where there
 * are DICOM studies they, and whatever else is no DICOM file, are left out.
 *
 * @param {{name: string, file: Blob}[]} files
 * @returns {Promise<{studies: Study[], skipped: {name: string, detail: string}[]}>}
 * A Study has `label`, `patient`, `date` and `files`, each with `name`, `file` and `header`.
 */
export async function arrange(files) {
  const read = [];
  for (const { name, file } of files) read.push({ name, file, header: await readHeader(file) });
  const skipped = [];
  const lone = read.length === 1;
  const usable = read.filter((each) => {
    const detail = lone ? null : reasonToSkip(each);
    if (detail) skipped.push({ name: each.name, detail });
    return !detail;
  });
  const groups = grouped(withoutCopies(usable, skipped));
  const pictures = groups.get("picture");
  if (pictures && groups.size > 1) {
    groups.delete("picture");
    for (const { name } of pictures) skipped.push({ name, detail: "No DICOM file, beside a DICOM study." });
  }
  const studies = [...groups.values()].map(describe).sort((a, b) => (b.moment > a.moment ? 1 : b.moment < a.moment ? -1 : 0));
  return { studies, skipped };
}

/** The newest earlier study of the patient of `chosen`, or null. */
export function priorOf(chosen, studies) {
  if (!chosen.patient || !chosen.moment) return null;
  return studies.find((study) => study !== chosen && study.patient === chosen.patient && study.moment && study.moment < chosen.moment) ?? null;
}

const studyOf = ({ header }) => (header ? header.study || "unknown" : "picture");

function grouped(files) {
  const groups = new Map();
  for (const each of files) groups.set(studyOf(each), [...(groups.get(studyOf(each)) ?? []), each]);
  return groups;
}

function reasonToSkip({ header, file }) {
  if (!file.size) return "The file is empty.";
  if (header?.isDirectory) return "The list of contents of a disc (DICOMDIR), no image.";
  if (header && !RADIOGRAPHS.includes(header.modality)) return `Not a radiograph: modality ${header.modality}.`;
  return null;
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
  const images = files.length === 1 ? "1 image" : `${files.length} images`;
  return {
    files,
    patient: header?.patient ?? "",
    moment: date ? date + (header?.time ?? "") : "",
    date: written,
    label: header ? `Study of ${written}, ${images}` : images,
  };
}
