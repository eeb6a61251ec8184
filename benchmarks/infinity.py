"""infinity-emb serving a ViT-B/16 from random weights, under the load that the service is under.

Its images are the service's, as data URIs (base64) to its own /embeddings call; it searches nothing. Its vision tower
is the service's without the adapters, a tenth less to compute; its text tower is small and idle. An environment with
it:

    python -m venv VENV
    VENV/bin/pip install 'infinity-emb[server,torch]==0.0.77' aiohttp pillow 'transformers<4.50' 'click<8.2'
"""

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import json_request, keep_busy
from benchmarks.served import free_port, process_running

__all__ = ["compare"]

MODEL = "vit-b-16"
DTYPES = ("float32", "bfloat16")


def compare(
    environment: Path | None, folder: Path, films: Sequence[bytes], device: str, seconds: float
) -> dict[str, Any]:
    """Its figures at 32 clients, the better of its dtypes; none, with the reason printed, where it cannot run."""
    if environment is None:
        print("infinity-emb: not compared, --infinity names no environment that has it")
        return {}
    model = folder / "infinity"
    maker = Path(__file__).with_name("infinity_model.py")
    made = subprocess.run([environment / "bin" / "python", maker, model], capture_output=True, text=True, check=False)
    if made.returncode:
        print(f"infinity-emb: not compared, its model could not be made: {made.stderr.strip().splitlines()[-1:]}")
        return {}
    best: dict[str, Any] = {}
    for dtype in DTYPES:
        found = _measured(environment, model, films, device, dtype, seconds)
        if found.get("infinity_images_per_s_at_32", 0) > best.get("infinity_images_per_s_at_32", 0):
            best = found
    return best


def _measured(
    environment: Path, model: Path, films: Sequence[bytes], device: str, dtype: str, seconds: float
) -> dict[str, Any]:
    port = free_port()
    command = [
        str(environment / "bin" / "infinity_emb"), "v2", "--model-id", str(model), "--served-model-name", MODEL,
        "--engine", "torch", "--device", "cpu" if device == "auto" else device, "--dtype", dtype,
        "--no-bettertransformer", "--batch-size", "8", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    try:
        with process_running(command, port, "/health", model.parent / f"infinity-{dtype}.log", offline):
            requests = [_request(film) for film in films]
            keep_busy(port, requests, 4, 2)  # its first calls
            load = keep_busy(port, requests, 32, seconds)
    except (RuntimeError, OSError) as error:
        print(f"infinity-emb, {dtype}: not compared, {str(error).splitlines()[-1]}")
        return {}
    if not load.latencies():
        print(f"infinity-emb, {dtype}: not compared, it answers {load.statuses}")
        return {}
    middle, most, nearly_all = load.percentiles_ms()
    print(
        f"infinity-emb, {dtype}, 32 clients: {load.rate:.1f} images/s, p50 {middle:.0f} ms, p95 {most:.0f}, p99"
        f" {nearly_all:.0f}, {load.statuses}",
        flush=True,
    )
    return {
        "infinity_dtype": dtype,
        "infinity_images_per_s_at_32": round(load.rate, 2),
        "infinity_p95_ms_at_32": round(most),
    }


def _request(film: bytes) -> bytes:
    uri = f"data:image/jpeg;base64,{base64.b64encode(film).decode()}"
    body = {"model": MODEL, "modality": "image", "input": [uri], "encoding_format": "base64"}
    return json_request("/embeddings", json.dumps(body).encode())
