// The few elements of a DICOM file that tell which files of a folder are one study. The service judges the files; this
// only keeps a CD of CT slices from being sent, and two studies from being taken for one.

const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]); // PS3.5 7.1.2
const UNDEFINED = 0xffffffff;
const DEEPEST = 32; // sequences within sequences

const WANTED = {
  "00020010": "transferSyntax",
  "00020002": "mediaStorage",
  "00080016": "sopClass",
  "00080018": "sopInstance",
  "00080020": "date",
  "00080030": "time",
  "00080060": "modality",
  "00100020": "patient",
  "0020000d": "study",
};
const LAST = 0x0020000d;

const IMPLICIT = "1.2.840.10008.1.2";
const UNREADABLE = ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]; // big endian, deflated: for the service to read
const DIRECTORY = "1.2.840.10008.1.3.10"; // DICOMDIR

/**
 * What a file's header says, or null where it is no DICOM file (PS3.10 7.1). Members that are absent or unreadable are "".
 *
 * @param {Blob} head the first bytes of the file: pixels come last (PS3.5 7.1: ascending tags)
 */
export async function readHeader(head) {
  const bytes = new Uint8Array(await head.arrayBuffer());
  if (bytes.length < 132 || String.fromCharCode(...bytes.subarray(128, 132)) !== "DICM") return null;
  const found = Object.fromEntries(Object.values(WANTED).map((name) => [name, ""]));
  try {
    readElements(bytes, found);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // it ends in the middle of an element: what was read stands
  }
  return { ...found, isDirectory: found.mediaStorage === DIRECTORY };
}

function readElements(bytes, found) {
  const view = new DataView(bytes.buffer);
  let at = 132;
  let implicit = false;
  while (at + 8 <= bytes.length) {
    const group = view.getUint16(at, true);
    if (group !== 2 && found.transferSyntax) {
      if (UNREADABLE.includes(found.transferSyntax)) return;
      implicit = found.transferSyntax === IMPLICIT;
    }
    const tag = group * 0x10000 + view.getUint16(at + 2, true);
    if (tag > LAST) return;
    const header = elementHeader(view, at, implicit && group !== 2);
    if (header.length === UNDEFINED) {
      at = skipSequence(view, header.value, implicit || header.unknown, 0);
      continue;
    }
    const name = WANTED[tag.toString(16).padStart(8, "0")];
    if (name) found[name] = text(bytes.subarray(header.value, header.value + header.length));
    at = header.value + header.length;
  }
}

/** Where the value of the element at `at` begins, its length, and whether nobody knows its VR. */
function elementHeader(view, at, implicit) {
  if (implicit) return { value: at + 8, length: view.getUint32(at + 4, true), unknown: false };
  const vr = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
  if (LONG.has(vr)) return { value: at + 12, length: view.getUint32(at + 8, true), unknown: vr === "UN" };
  return { value: at + 8, length: view.getUint16(at + 6, true), unknown: false };
}

/**
 * Behind a sequence of undefined length (PS3.5 7.5), whose items are walked as they may be of such a length too. What is in
 * one of unknown VR is in implicit VR (PS3.5 6.2.2). Throws RangeError where the bytes end or it is too deep.
 */
function skipSequence(view, at, implicit, depth) {
  if (depth > DEEPEST) throw new RangeError("too deep");
  for (;;) {
    const element = view.getUint16(at + 2, true);
    const length = view.getUint32(at + 4, true);
    at += 8;
    if (element === 0xe0dd) return at;
    at = length === UNDEFINED ? skipItem(view, at, implicit, depth) : at + length;
  }
}

function skipItem(view, at, implicit, depth) {
  for (;;) {
    if (view.getUint16(at, true) === 0xfffe) return at + 8; // the item's delimiter
    const header = elementHeader(view, at, implicit);
    const end = header.value + header.length;
    at = header.length === UNDEFINED ? skipSequence(view, header.value, implicit || header.unknown, depth + 1) : end;
  }
}

function text(bytes) {
  return new TextDecoder("latin1").decode(bytes).replace(/[\0\s]+$/, "").trim();
}
