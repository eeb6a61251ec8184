"""Rows of a CSV file, plain or gzipped, each with the line it starts at."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import InputError

__all__ = ["TableError", "read_csv"]


class TableError(InputError):
    slug = "bad-study-table"


def read_csv(path: Path, required: Sequence[str] = (), remedy: str = "") -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of every row; cells are stripped, an absent one is empty.

    Raises TableError for a file that cannot be read, a column that comes twice, one of ``required`` that is missing
    (``remedy`` says what to do then), or a row with more cells than the header.
    """
    try:
        with _open(path) as stream:
            reader = csv.DictReader(stream)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if repeated := sorted({name for name in columns if name and columns.count(name) > 1}):
                raise TableError(f"{path}: expected every column once; {', '.join(repeated)} comes twice.")
            if missing := [name for name in required if name not in columns]:
                found = ", ".join(columns) or "nothing"
                raise TableError(f"{path}: column {', '.join(missing)} missing; found {found}. {remedy}".strip())
            reader.fieldnames = columns
            line = reader.line_num + 1
            for row in reader:
                if any(cell.strip() for cell in row.pop(None, ())):
                    raise TableError(
                        f"{path}, line {line}: more cells than the header has; is a comma or a line break unquoted?"
                    )
                yield line, {name: (value or "").strip() for name, value in row.items()}
                line = reader.line_num + 1
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: expected UTF-8, found byte {error.object[error.start]:#04x}; convert it.") from error
    except (EOFError, zlib.error) as error:
        raise TableError(f"{path}: the compressed file is cut off or damaged ({error}); fetch it again.") from error
    except csv.Error as error:
        raise TableError(f"{path}, after line {line}: {error}; is it a CSV file?") from error


def _open(path: Path):  # type: ignore[no-untyped-def]
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
