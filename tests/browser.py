"""A real Chromium on the pages, for test_page_* files, which load this module as a pytest plugin.

Without Chromium the tests skip. A page that loads anything from elsewhere, logs an error or throws fails its test.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

__all__ = ["browser", "page", "serious_violations"]

WORKSTATION = {"width": 1440, "height": 900}
PATIENCE_MS = 60_000  # on a busy host


# A module each: Playwright's event loop, which runs as long as its fixture, would be in the way of tests of asyncio.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("ALTA_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is absent (Debian package chromium; ALTA_TEST_CHROMIUM names another one)")
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container's root may not have; the pages are ours.
        expect.set_options(timeout=PATIENCE_MS)
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty tab with nothing remembered. ``page.faults`` is what went wrong in it."""
    context = browser.new_context(viewport=WORKSTATION, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = context.new_page()
    faults: list[str] = []
    made.faults = faults  # type: ignore[attr-defined]

    def heard(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            faults.append(f"asked another host: {request.url}")

    made.on("request", heard)
    made.on("pageerror", lambda error: faults.append(f"threw: {error}"))
    made.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
    yield made
    context.close()
    assert not faults, faults


def _is_fault(message: ConsoleMessage) -> bool:
    """Chromium logs every answer that is no success; what the page makes of a 4xx is what tests are about."""
    return message.type == "error" and not re.search(r"responded with a status of 4\d\d", message.text)


@pytest.fixture
def serious_violations(page: Page) -> Callable[[], list[str]]:
    """What axe (WCAG 2) calls serious or critical of the page as it is when asked."""

    def look() -> list[str]:
        found = Axe().run(page).response["violations"]
        return [
            f"{each['id']}: {each['help']} at {[node['target'] for node in each['nodes']][:3]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    return look
