"""What an answer waits for its entry in the audit, and what sharing commits brings.

    python -m benchmarks.audit                                          # SQLite, on the disk of --folder
    python -m benchmarks.audit --database-url postgresql://user@host/empty

Clients at once, each of whom waits for their entry before the next: milliseconds an entry and entries a second, through
the service's own writer. Baseline: a transaction an entry, one after the other. Last line: JSON.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from index import Catalog, migrate, open_catalog
from index.access.audit import Event, record_events, verify_audit
from service.access.audit_writer import AuditWriter

EVENT = Event("key:0123456789ab", "image_to_text", 64 * "a", "10.0.0.1", 200, 10, 32 * "b")
CLIENTS = (1, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", help="An empty database; default: SQLite in a temporary folder.")
    parser.add_argument("--folder", type=Path, help="Where that folder is made.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of each measurement.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        url = options.database_url or f"sqlite:///{folder}/alta.db"
        migrate(url)
        with closing(open_catalog(url)) as catalog:
            found: dict[str, float] = {"alone_per_s": round(alone(catalog, options.seconds), 1)}
            print(f"one transaction an entry: {found['alone_per_s']:.0f} entries/s")
            for clients in CLIENTS:
                waits = asyncio.run(together(catalog, clients, options.seconds))
                rate, (half, most) = len(waits) / options.seconds, np.percentile(waits, (50, 95)) * 1000
                print(f"{clients:2} clients: {rate:6.0f} entries/s, wait p50 {half:.1f} ms, p95 {most:.1f} ms")
                found |= {f"per_s_at_{clients}": round(rate, 1), f"p95_ms_at_{clients}": round(float(most), 2)}
            began = time.perf_counter()
            verified = verify_audit(catalog)
            seconds = time.perf_counter() - began
            print(f"verified {verified.entries} entries in {seconds:.1f} s: {'whole' if verified.whole else 'BROKEN'}")
            found["verified_per_s"] = round(verified.entries / seconds)
    found["shared_over_alone"] = round(found["per_s_at_32"] / found["alone_per_s"], 2)
    print(json.dumps(found))


def alone(catalog: Catalog, seconds: float) -> float:
    """Entries a second."""
    count, ends = 0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        record_events(catalog, [EVENT])
        count += 1
    return count / seconds


async def together(catalog: Catalog, clients: int, seconds: float) -> list[float]:
    """Seconds that each entry was waited for."""
    writer, waits, ends = AuditWriter(catalog), [], time.perf_counter() + seconds

    async def ask() -> None:
        while (began := time.perf_counter()) < ends:
            await writer.write([EVENT])
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(ask() for _ in range(clients)))
    writer.close()
    return waits


if __name__ == "__main__":
    main()
