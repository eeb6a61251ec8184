// What was dropped or chosen (files, folders, zip archives) as a flat list of things to open.

import { isZip, readZip, ZipError } from "./zip.js";

const MOST = 5000; // files that are looked at: a disc has a few hundred
const HEAD = 512 * 1024; // bytes of a file that tell what it is

/**
 * Files of a drop, folders opened. Has to begin within the event: its items are gone afterwards.
 * What cannot be read is left out, as are files beyond some thousands.
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const plain = [...transfer.files];
  if (!entries.length) return plain;
  const found = [];
  for (const entry of entries) await walk(entry, found).catch(() => {}); // a disc that was taken out
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
 * Zip archives replaced by what is in them. Nothing is unpacked yet: `head()` gives the first bytes of a file as a Blob,
 * `open()` all of them; both throw ZipError or what reading a file throws.
 *
 * @param {File[]} files
 * @returns {Promise<{files: {name: string, size: number, head: () => Promise<Blob>, open: () => Promise<Blob>}[],
 *   problems: {name: string, detail: string}[]}>}
 */
export async function opened(files) {
  const found = [];
  const problems = [];
  for (const file of files) {
    try {
      if (await isZip(file)) found.push(...(await readZip(file, HEAD)));
      else found.push({ name: file.name, size: file.size, head: async () => file.slice(0, HEAD), open: async () => file });
    } catch (error) {
      problems.push({ name: file.name, detail: error instanceof ZipError ? error.message : "The file cannot be read." });
    }
  }
  if (found.length > MOST) problems.push({ name: "The rest", detail: `More than ${MOST} files.` });
  return { files: found.slice(0, MOST).filter(({ name }) => !isHidden(name)).map((each) => ({ ...each, name: baseName(each.name) })), problems };
}

const baseName = (path) => path.split(/[\\/]/).pop();
const isHidden = (path) => path.split(/[\\/]/).some((part) => part.startsWith(".") || part === "__MACOSX" || part === "Thumbs.db");
