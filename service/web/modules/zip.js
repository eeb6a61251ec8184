// Zip archives, opened in the browser: a study on its way from a PACS is often one.

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;
const UTF8 = 0x800;
const WHOLE = 0xffffffff; // the real number is in a Zip64 field

export const LARGEST = 512 * 2 ** 20; // bytes of one unpacked file; a radiograph has less than a tenth of it

export class ZipError extends Error {}

export async function isZip(file) {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return head[0] === 0x50 && head[1] === 0x4b && [3, 5].includes(head[2]);
}

/**
 * The files of an archive, unpacked one by one when asked for: `head()` the first bytes, `open()` all, checked.
 *
 * @param {Blob} file
 * @param {number} headSize
 * @returns {Promise<{name: string, size: number, head: () => Promise<Blob>, open: () => Promise<Blob>}[]>}
 * Throws ZipError: no archive, an encrypted one, another way of packing, Zip64.
 */
export async function readZip(file, headSize) {
  const tail = await view(file, Math.max(0, file.size - 65557), file.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new ZipError("The zip file is incomplete.");
  const count = tail.getUint16(end + 10, true);
  const size = tail.getUint32(end + 12, true);
  const start = tail.getUint32(end + 16, true);
  if (count === 0xffff || start === WHOLE || size === WHOLE) throw new ZipError("The zip file is too large to be opened here; unpack it first.");
  const directory = await view(file, start, start + size);
  const found = [];
  try {
    for (let at = 0; found.length < count && at + 46 <= directory.byteLength; ) {
      if (directory.getUint32(at, true) !== CENTRAL) throw new ZipError("The zip file's directory is broken.");
      const entry = readEntry(directory, at);
      const member = { name: entry.name, size: entry.size, head: () => unpack(file, entry, headSize), open: () => unpack(file, entry) };
      found.push(/[\\/]$/.test(entry.name) ? null : member); // a folder
      at += entry.length;
    }
  } catch (error) {
    if (error instanceof RangeError) throw new ZipError("The zip file's directory is broken.");
    throw error;
  }
  return found.filter(Boolean);
}

function readEntry(directory, at) {
  const nameLength = directory.getUint16(at + 28, true);
  const name = new Uint8Array(directory.buffer, directory.byteOffset + at + 46, nameLength);
  return {
    flags: directory.getUint16(at + 8, true),
    method: directory.getUint16(at + 10, true),
    crc: directory.getUint32(at + 16, true),
    packed: directory.getUint32(at + 20, true),
    size: directory.getUint32(at + 24, true),
    offset: directory.getUint32(at + 42, true),
    name: new TextDecoder(directory.getUint16(at + 8, true) & UTF8 ? "utf-8" : "latin1").decode(name), // DOS wrote code page 437
    length: 46 + nameLength + directory.getUint16(at + 30, true) + directory.getUint16(at + 32, true),
  };
}

/** All of a file, or its first `most` bytes. */
async function unpack(file, entry, most = Infinity) {
  if (entry.flags & ENCRYPTED) throw new ZipError("The zip file is encrypted; unpack it first.");
  if (entry.size === WHOLE || entry.size > LARGEST) throw new ZipError(`${entry.name} is too large.`);
  if (![STORED, DEFLATED].includes(entry.method)) throw new ZipError(`${entry.name} is packed in a way that is not known here; unpack the file first.`);
  const local = await view(file, entry.offset, entry.offset + 30);
  const start = entry.offset + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const packed = file.slice(start, start + entry.packed).stream();
  const plain = entry.method === DEFLATED ? packed.pipeThrough(new DecompressionStream("deflate-raw")) : packed;
  return read(plain.getReader(), entry, most);
}

/** Reads no more than the directory promised: a bomb ends here. */
async function read(reader, entry, most) {
  const parts = [];
  let size = 0;
  let crc = ~0;
  try {
    while (size < most) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > entry.size) throw new ZipError(`${entry.name} is larger than the zip file says.`);
      crc = checked(crc, value);
      parts.push(value);
    }
    if (size >= most) return new Blob(parts).slice(0, most);
  } catch (error) {
    if (error instanceof ZipError) throw error;
    throw new ZipError(`${entry.name} is broken in the zip file.`);
  } finally {
    reader.cancel().catch(() => {});
  }
  if (size !== entry.size || ~crc >>> 0 !== entry.crc) throw new ZipError(`${entry.name} is broken in the zip file.`);
  return new Blob(parts);
}

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function checked(crc, bytes) {
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return crc;
}

async function view(file, start, end) {
  const buffer = await file.slice(start, end).arrayBuffer();
  if (buffer.byteLength < end - start) throw new ZipError("The zip file is incomplete.");
  return new DataView(buffer);
}
