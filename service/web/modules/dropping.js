// What was dropped or chosen (files, folders, zip archives) as a flat list of files.

import { isZip, readZip, ZipError } from "./zip.js";

const MOST = 5000; // files that are looked at: a CD has a few hundred

/** Files of a drop, folders opened. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (found.length >= MOST) return;
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at most
    if (!batch.length) return;
    for (const each of batch) await walk(each, found);
  }
}

/**
 * Zip archives replaced by what is in them.
 *
 * @param {File[]} files
 * @returns {Promise<{files: {name: string, file: Blob}[], problems: {name: string, detail: string}[]}>}
 */
export async function unpacked(files) {
  const found = [];
  const problems = [];
  for (const file of files) {
    try {
      if (!(await isZip(file))) {
        found.push({ name: file.name, file });
        continue;
      }
      const members = (await readZip(file)).filter(({ name }) => !isHidden(name));
      if (found.length + members.length > MOST) throw new ZipError(`The zip file has more than ${MOST} files.`);
      for (const member of members) {
        try {
          found.push({ name: baseName(member.name), file: await member.open() });
        } catch (error) {
          if (!(error instanceof ZipError)) throw error;
          problems.push({ name: baseName(member.name), detail: error.message });
        }
      }
    } catch (error) {
      if (!(error instanceof ZipError) && !(error instanceof DOMException)) throw error;
      problems.push({ name: file.name, detail: error instanceof ZipError ? error.message : "The file cannot be read." });
    }
  }
  return { files: found.filter(({ name }) => !isHidden(name)), problems };
}

const baseName = (path) => path.split("/").pop();
const isHidden = (path) => path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX") || path.endsWith("Thumbs.db");
