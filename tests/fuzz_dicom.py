"""Broken DICOM files and pictures, any number of them, each made again from a seed and its number."""

import random
import resource
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS
from pydicom.uid import MPEG2MPML, ExplicitVRBigEndian

from index.intake.examine import Examined, Source, examine
from model.image import ImageTransform, prepare_radiograph, read_radiograph

__all__ = [
    "Case",
    "Mutation",
    "Outcome",
    "duplicate_chunk",
    "examine_case",
    "flip_anywhere",
    "make_case",
    "overwrite_run",
    "remove_chunk",
    "swap_chunks",
    "truncate",
]

TRANSFORM = ImageTransform(resize=36, crop=32)  # small, so that simulated JPEG 2000 files are read at half their size
HEADER = 2048  # bytes from the start where most of the header is
PIXEL_TAG = b"\xe0\x7f\x10\x00"
SYNTAXES = [*(str(syntax) for syntax in _PIXEL_DATA_DECODERS), str(ExplicitVRBigEndian), str(MPEG2MPML), "1.2.3", ""]
# Rows, Columns, BitsAllocated, BitsStored, HighBit, PixelRepresentation, SamplesPerPixel, PlanarConfiguration
NUMBERS = [(0x28, element) for element in (0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x02, 0x06)]
EXTREMES = (0, 1, 2, 7, 8, 9, 15, 17, 32, 64, 255, 256, 4096, 32767, 32768, 60000, 65535)
LENGTHS = (0, 1, 3, 0x7F, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
TEXTS = ("", "nan", "inf", "-1e308", "1e308", "0", "-1", "1e-320", "99999999999999999999", "\\\\\\", "\0", "1\\2\\3")
# NumberOfFrames, WindowCenter, WindowWidth, RescaleIntercept, RescaleSlope, as text (IS, DS)
TEXT_ELEMENTS = ((0x08, b"IS"), (0x1050, b"DS"), (0x1051, b"DS"), (0x1052, b"DS"), (0x1053, b"DS"))
MARKERS = (b"\xff\x4f\xff\x51", b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7", b"IHDR", b"DICM")

Mutation = Callable[[bytearray, random.Random], None]


@dataclass(frozen=True)
class Case:
    base: str
    mutations: tuple[str, ...]
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of one case. peak: bytes of memory that its process had, from its start."""

    examined: Examined
    peak: int


def make_case(bases: Mapping[str, bytes], seed: int, number: int) -> Case:
    """Case ``number`` of a seed: a base with one to three things done to it. The names of the bases count too."""
    chance = random.Random(f"{seed}:{number}")
    name = chance.choice(sorted(bases))
    data = bytearray(bases[name])
    chosen = chance.choices(MUTATIONS, k=chance.choice((1, 1, 1, 2, 3)))
    for mutation in chosen:
        if data:
            mutation(data, chance)
    return Case(name, tuple(mutation.__name__ for mutation in chosen), bytes(data))


def examine_case(path: Path) -> Outcome:
    """For a worker process. What is accepted must also be a picture for the encoder. Raises AssertionError."""
    found = examine(Source(path))
    if found.refusal is None and found.report is None:
        pixels = read_radiograph(path).pixels
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        assert np.isfinite(TRANSFORM(pixels)).all()
        assert np.isfinite(prepare_radiograph(path, TRANSFORM).pixels).all()
    return Outcome(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _flip(data: bytearray, chance: random.Random, start: int, end: int, most: int = 16) -> None:
    for _ in range(chance.randint(1, most)):
        data[chance.randrange(start, end)] ^= 1 << chance.randrange(8)


def flip_anywhere(data: bytearray, chance: random.Random) -> None:
    _flip(data, chance, 0, len(data))


def flip_header(data: bytearray, chance: random.Random) -> None:
    _flip(data, chance, 0, min(HEADER, len(data)), most=4)


def flip_pixels(data: bytearray, chance: random.Random) -> None:
    _flip(data, chance, _pixels(data), len(data))


def flip_start_of_pixels(data: bytearray, chance: random.Random) -> None:
    start = _pixels(data)
    _flip(data, chance, start, min(start + 256, len(data)), most=6)


def overwrite_run(data: bytearray, chance: random.Random) -> None:
    place, length = chance.randrange(len(data)), chance.choice((1, 2, 4, 16, 256))
    run = chance.choice((b"\x00" * length, b"\xff" * length, chance.randbytes(length)))
    data[place : place + length] = run


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.choice((chance.randrange(len(data)), chance.randrange(min(HEADER, len(data))))) :]


def remove_chunk(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.choice((1, 2, 8, 64, 1000))]


def duplicate_chunk(data: bytearray, chance: random.Random) -> None:
    place, length = chance.randrange(len(data)), chance.choice((1, 2, 8, 64, 1000, 100_000))
    data[place:place] = data[place : place + length] * chance.choice((1, 1, 2, 50))


def swap_chunks(data: bytearray, chance: random.Random) -> None:
    length = chance.choice((2, 8, 64, 1000))
    one, two = sorted(chance.randrange(len(data)) for _ in range(2))
    if one + length <= two:
        data[one : one + length], data[two : two + length] = data[two : two + length], data[one : one + length]


def extreme_length(data: bytearray, chance: random.Random) -> None:
    """Of an element whose VR is written out; a length of two or four bytes, whatever the VR has."""
    places = [
        place
        for place in range(132, min(len(data), 2 * HEADER) - 12, 2)
        if data[place + 4 : place + 6].isalpha() and data[place + 4 : place + 6].isupper()
    ]
    place = chance.choice([*places, _pixels(data), chance.randrange(len(data))])
    value = chance.choice((*LENGTHS, chance.getrandbits(32)))
    if chance.random() < 0.5:
        data[place + 6 : place + 8] = struct.pack("<H", value & 0xFFFF)
    else:
        data[place + 8 : place + 12] = struct.pack("<I", value)


def extreme_number(data: bytearray, chance: random.Random) -> None:
    """An element that says how the pixels lie."""
    for group, element in chance.sample(NUMBERS, chance.randint(1, 3)):
        place = data.find(struct.pack("<HH", group, element))
        if place >= 0:
            data[place + 8 : place + 10] = struct.pack("<H", chance.choice(EXTREMES))


def extreme_text(data: bytearray, chance: random.Random) -> None:
    """An element that holds a number as text, put before all others of its group."""
    element, vr = chance.choice(TEXT_ELEMENTS)
    value = chance.choice(TEXTS).encode().ljust(2, b" ")
    value += b" " * (len(value) % 2)
    place = max(data.find(b"\x28\x00\x02\x00"), 0)
    data[place:place] = struct.pack("<HH", 0x28, element) + vr + struct.pack("<H", len(value)) + value


def other_syntax(data: bytearray, chance: random.Random) -> None:
    """The pixels stay as they are encoded."""
    place = data.find(b"\x02\x00\x10\x00UI")
    if place < 0:
        return
    (length,) = struct.unpack_from("<H", data, place + 6)
    value = chance.choice(SYNTAXES).encode()
    value += b"\0" * (len(value) % 2)
    data[place + 6 : place + 8 + length] = struct.pack("<H", len(value)) + value
    if data[132:136] == b"\x02\x00\x00\x00":  # the length of the group
        (whole,) = struct.unpack_from("<I", data, 140)
        data[140:144] = struct.pack("<I", (whole + len(value) - length) & 0xFFFFFFFF)


def nested_sequences(data: bytearray, chance: random.Random) -> None:
    """Of undefined length, one in the other, each closed, or none, or only some."""
    depth = chance.choice((1, 10, 100, 1000, 5000))
    opened = (b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * chance.choice((depth, 0, depth // 2, depth + 3))
    place = chance.choice((max(data.find(b"\x08\x00\x18\x00"), 0), _pixels(data) - 4))
    data[place:place] = opened + closed


def many_elements(data: bytearray, chance: random.Random) -> None:
    """Small ones before the pixels, as many as a careless exporter, or an enemy, writes."""
    count = chance.choice((1000, 20_000))
    elements = b"".join(struct.pack("<HH", 0x29, number % 65536) + b"LO\x02\x00ab" for number in range(0x1000, count))
    place = max(_pixels(data) - 4, 0)
    data[place:place] = elements


def extreme_codestream(data: bytearray, chance: random.Random) -> None:
    """The sizes that the compressed frame itself states."""
    place = max(data.find(marker) for marker in MARKERS)
    if place >= 0:
        at = place + 4 + chance.choice((0, 1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 36, 37, 38))
        value = chance.choice(
            (b"\xff\xff\xff\xff", b"\x00\x00\xff\xff", b"\xff\xff", b"\0\0\0\0", b"\0\1", b"\x7f\xff")
        )
        data[at : at + len(value)] = value


def _pixels(data: bytearray) -> int:
    """Where the pixel data begin; the start of the file when they are nowhere."""
    place = data.rfind(PIXEL_TAG)
    return place + 4 if 0 <= place < len(data) - 8 else 0


MUTATIONS: tuple[Mutation, ...] = (
    flip_anywhere,
    flip_header,
    flip_pixels,
    flip_start_of_pixels,
    overwrite_run,
    truncate,
    remove_chunk,
    duplicate_chunk,
    swap_chunks,
    extreme_length,
    extreme_number,
    extreme_text,
    other_syntax,
    nested_sequences,
    many_elements,
    extreme_codestream,
)
