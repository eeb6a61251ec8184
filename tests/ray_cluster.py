"""A two-node Ray cluster on this host that embeds a catalog; one of the nodes may be killed midway.

``python -m tests.ray_cluster URL [kill]``. Prints what the job counted, as JSON. In a process of its own: Ray leaves
threads and warnings behind. ALTA_TEST_ENCODER_DELAY seconds are spent in every call of the encoder.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from index.embedding.ray_job import embed_on_ray

from .embed_slowly import SlowEncoder


def kill(node: Any) -> None:
    """End every process of a node at once, as when its host loses power."""
    processes = [info.process.pid for infos in node.all_processes.values() for info in infos]
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for process in [*processes, *map(int, children)]:
        os.kill(process, signal.SIGKILL)


def main() -> None:
    logging.disable(logging.WARNING)
    # A node that is gone is noticed after a second, not after half a minute.
    noticing = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": noticing})
    other = cluster.add_node(num_cpus=1)
    killing = sys.argv[2:] == ["kill"]
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(sum(node["Alive"] for node in ray.nodes()))
        if killing and len(seen) == 2:
            kill(other)

    try:
        made = embed_on_ray(
            cluster.address, sys.argv[1], SlowEncoder, SlowEncoder().fingerprint, batch_size=2, workers=0, part_size=6,
            progress=progress,
        )  # fmt: skip
        print(
            json.dumps({"images": made.images, "reports": made.reports, "failed": made.failed.total(), "nodes": seen})
        )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
