"""The pictures of the pages in docs/images, from the demo's archive and an installed Chromium: ``make pictures``.

Everything in them is simulated. They are quantised, as the repository keeps them.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
DEMO = ROOT / "data/demo"
WORKSTATION = {"width": 1440, "height": 900}
COLOURS = 256


@contextmanager
def service() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "ALTA_DATA_DIR": str(DEMO),
        "ALTA_PORT": str(port),
        "ALTA_VIEWER_URL": "https://ohif.example/viewer?StudyInstanceUIDs={study_instance_uid}",
    }
    running = subprocess.Popen([Path(sys.executable).parent / "alta", "serve"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _ready(url):
            if running.poll() is not None:
                sys.exit("The service has ended. `make demo SERVE=0` makes the archive it needs.")
            time.sleep(0.2)
        yield url
    finally:
        running.terminate()
        running.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def take(page: Page, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(f"{name}.png, {(IMAGES / f'{name}.png').stat().st_size // 1024} KiB")


def pictures(page: Page, url: str) -> None:
    page.goto(url)
    page.set_input_files("#files", [path for path in (DEMO / "query").rglob("*") if path.is_file()])
    expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible(timeout=60_000)
    expect(page.locator(".card img").nth(1)).to_be_visible(timeout=60_000)
    take(page, "page")
    page.get_by_role("button", name="Side by side").first.click()
    dialog = page.get_by_role("dialog", name="Side by side")
    expect(dialog.get_by_role("img", name="Hit 1, frontal")).to_be_visible()
    dialog.locator("mark").last.click()
    for legend in (0, 1):
        expect(dialog.locator(".legend").nth(legend)).to_contain_text("Where the encoders see", timeout=60_000)
    take(page, "side-by-side")
    page.goto(f"{url}/operations")
    expect(page.get_by_role("heading", name="Archive")).to_be_visible(timeout=60_000)
    page.wait_for_load_state("networkidle")
    take(page, "operations")


def main() -> None:
    with service() as url, sync_playwright() as playwright:
        program = os.environ.get("ALTA_TEST_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        pictures(browser.new_page(viewport=WORKSTATION), url)
        browser.close()


if __name__ == "__main__":
    main()
