"""The administrator's page in a real browser: figures, what needs attention, jobs, and a service that goes away."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from index import Catalog, open_catalog
from index.access.keys import create_key
from index.jobs.lease import beat, claim, finish
from index.jobs.queue import enqueue, list_jobs
from service.settings import Settings
from tests.live_service import live, until
from tests.service_samples import Film, take_in

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

FIGURES = "**/v1/operations"

expect.set_options(timeout=60_000)  # on a busy host
TABLET, PHONE = {"width": 820, "height": 1180}, {"width": 390, "height": 844}


@pytest.fixture
def settings(own_archive: Settings, tmp_path: Path) -> Settings:
    return own_archive.model_copy(update={"receive": True, "ingest_roots": (tmp_path / "source",), "min_free_mb": 0})


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = open_catalog(settings.catalog_url)
    yield opened
    opened.close()


@pytest.fixture
def opened(settings: Settings, page: Page) -> Iterator[Page]:
    """The page with its figures."""
    with live(settings) as url:
        look(page, url)
        yield page


def look(page: Page, url: str) -> None:
    page.goto(f"{url}/operations")
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")


def section(page: Page, title: str) -> Any:
    return page.get_by_role("region", name=title, exact=True)


def changed(page: Page, change: Callable[[dict[str, Any]], None]) -> None:
    """What the page is told from now on: the service's figures, changed."""

    def answer(route: Route) -> None:
        response = route.fetch()
        reply = response.json()
        change(reply)
        route.fulfill(response=response, body=json.dumps(reply))

    page.route(FIGURES, answer)
    page.get_by_role("button", name="Refresh now").click()


def test_the_figures_are_on_the_page_and_it_can_be_used_by_everyone(
    settings: Settings, tmp_path: Path, page: Page, serious_violations: Callable[[], list[str]]
) -> None:
    source = tmp_path / "source"
    (source / "foot.dcm").write_bytes(Film("1.2.3.8", 2, body_part="FOOT").dicom())
    take_in(settings, source)
    with live(settings) as url:
        look(page, url)
        expect(section(page, "Archive")).to_contain_text("studies4")
        expect(section(page, "Index")).to_contain_text("7 rows looked for themselves, and all were found")
        expect(section(page, "Index")).to_contain_text("recall@10 against exact search 1.000")
        row = page.get_by_role("table", name="Files by reason").get_by_role("row", name=re.compile("Not a chest"))
        expect(row).to_contain_text("1")
        expect(page.get_by_role("progressbar", name="Images: 4 of 4")).to_have_attribute("value", "4")
        expect(
            page.get_by_role("img", name=re.compile("Studies taken in in each of the last 24 hours"))
        ).to_be_visible()
        expect(section(page, "Disk and backups")).to_contain_text("free")
        expect(section(page, "What needs attention")).to_contain_text("No backup is known.")
        assert serious_violations() == []
        for size in (TABLET, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), size


def test_a_key_is_asked_for_and_one_without_the_scope_can_be_replaced(
    settings: Settings, catalog: Catalog, page: Page
) -> None:
    keys = {scope: create_key(catalog, scope, [scope], "test")[0] for scope in ("search", "admin")}
    with live(settings) as url:
        page.goto(f"{url}/operations")
        for scope in ("search", "admin"):
            page.get_by_label("This service asks for an API key").fill(keys[scope])
            page.keyboard.press("Enter")
            if scope == "search":
                expect(page.get_by_role("alert").filter(has_text="it needs the scope admin")).to_be_visible()
                page.get_by_role("button", name="Use another key").click()
        expect(section(page, "Archive")).to_contain_text("studies4")


def test_a_service_that_does_not_answer_leaves_its_last_figures_greyed(opened: Page) -> None:
    for answer in (lambda route: route.abort(), lambda route: route.fulfill(status=502, body="<html>Bad gateway")):
        opened.route(FIGURES, answer)
        opened.get_by_role("button", name="Refresh now").click()
        expect(opened.locator("body")).to_have_class(re.compile("stale"))
        expect(opened.get_by_role("alert").filter(has_text="The figures below are those of")).to_be_visible()
        expect(opened.get_by_text("Last read")).to_contain_text("Tried again every 10 s.")
        expect(section(opened, "Archive")).to_contain_text("studies4")
        opened.unroute(FIGURES)
        opened.get_by_role("button", name="Refresh now").click()
        expect(opened.locator("body")).not_to_have_class(re.compile("stale"))
        expect(opened.get_by_text("The service answers again.")).to_be_visible()
    opened.faults.clear()  # type: ignore[attr-defined]  # what was aborted, and the 502


def test_what_needs_attention_stands_at_the_top_with_what_to_do(opened: Page) -> None:
    def change(reply: dict[str, Any]) -> None:
        reply["disk"]["value"] |= {"free": 10 * 2**20, "kept_free": 2**31}
        reply["embedding"]["value"]["image"] |= {"embedded": 1, "missing": 3}
        reply["embedding"]["value"]["without_frontal"] = 1
        reply["generations"]["value"]["last_verification"] = {
            "state": "failed",
            "finished_at": reply["at"],
            "error": {"slug": "index-file-corrupt", "title": "An index file is damaged"},
        }
        reply["jobs"]["value"] |= {"queued": 2, "waiting_since": "2024-01-01T00:00:00Z"}
        reply["refused"] = {
            "as_of": None,
            "value": None,
            "problem": {"slug": "database-unavailable", "title": "The database cannot be used"},
        }
        reply["throughput"] = {
            "as_of": None,
            "value": None,
            "problem": {"slug": "counting", "title": "Counting"},
        }

    changed(opened, change)
    attention = section(opened, "What needs attention")
    for words in (
        "The disk is nearly full, 10 MiB",
        "Not embedded yet, so not found: 3 studies.",
        "Index files were found damaged: An index file is damaged.",
        "No worker takes a job, and the oldest of 2 jobs waits for",
        "The figures of “refused” cannot be read: The database cannot be used.",
    ):
        expect(attention).to_contain_text(words)
    levels = attention.get_by_role("listitem").locator("strong").all_inner_texts()
    assert levels == sorted(levels) and {"Problem", "Warning"} == set(levels)
    expect(section(opened, "Refused")).to_contain_text("Cannot be read now: The database cannot be used.")
    expect(section(opened, "Throughput")).to_contain_text("Being counted for the first time")
    expect(opened.get_by_role("progressbar", name="Images: 1 of 4, 3 missing")).to_be_visible()
    without = section(opened, "Archive").get_by_text("Without a frontal image, so not found by image: 1 study.")
    expect(without).to_contain_text("alta archive without-frontal")


def test_jobs_are_asked_for_and_called_off_with_the_keyboard_alone(opened: Page, catalog: Catalog) -> None:
    opened.get_by_role("button", name="Embed what is missing").focus()
    opened.keyboard.press("Enter")
    dialog = opened.get_by_role("dialog", name="Embed what is missing")
    expect(dialog).to_be_visible()
    opened.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert list_jobs(catalog) == []
    opened.keyboard.press("Enter")
    dialog.get_by_label("Also those that failed").focus()
    opened.keyboard.press("Space")
    opened.keyboard.press("Enter")
    expect(opened.get_by_text("1 waiting, 0 succeeded")).to_be_visible()
    (job,) = list_jobs(catalog)
    assert (job.kind, job.arguments["retry_failed"]) == ("embed", True)
    held = claim(catalog, "host:1:ab", ["embed"])
    assert held is not None
    beat(catalog, held, 30, 120)
    opened.get_by_role("button", name="Refresh now").click()
    expect(opened.get_by_role("progressbar", name="Progress of embed: 30 of 120, 25 %")).to_be_visible()
    opened.get_by_role("button", name="Call off embed").focus()
    beat(catalog, held, 60, 120)
    opened.evaluate("document.getElementById('refresh').click()")
    expect(opened.get_by_role("progressbar", name="Progress of embed: 60 of 120, 50 %")).to_be_visible()
    expect(opened.get_by_role("button", name="Call off embed")).to_be_focused()  # through the refresh
    opened.keyboard.press("Enter")
    opened.get_by_role("dialog").get_by_role("button", name="Call it off").focus()
    opened.keyboard.press("Enter")
    expect(opened.get_by_text("is called off", exact=True)).to_be_visible()
    assert beat(catalog, held, 60, 120).cancel


def test_studies_are_taken_in_from_the_roots_and_a_refusal_is_told(opened: Page, settings: Settings) -> None:
    opened.get_by_role("button", name="Take studies in…").click()
    dialog = opened.get_by_role("dialog", name="Take studies in")
    path = dialog.get_by_label("Path, under")
    expect(path).to_have_value(str(settings.ingest_roots[0]))
    path.fill("/etc")
    dialog.get_by_role("button", name="Ask for it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Expected an absolute path under one of ALTA_INGEST_ROOTS.")
    path.fill(str(settings.ingest_roots[0]))
    dialog.get_by_role("button", name="Ask for it").click()
    expect(dialog).to_be_hidden()


def test_how_jobs_ended_is_told(settings: Settings, catalog: Catalog, page: Page) -> None:
    for kind, outcome in (
        ("embed", {"state": "succeeded", "result": {"images": 60, "failed": {"undecodable": 2}}}),
        ("verify", {"state": "failed", "error": "path-not-allowed"}),
    ):
        enqueue(catalog, kind, {}, exclusive=kind, requested_by="test")
        held = claim(catalog, "host:1:ab", [kind])
        assert held is not None
        finish(catalog, held, **outcome)  # type: ignore[arg-type]
    with live(settings) as url:
        look(page, url)
        table = page.get_by_role("table", name="The last that ended")
        expect(table.get_by_role("row", name=re.compile("embed"))).to_contain_text("images 60, failed undecodable 2")
        expect(table.get_by_role("row", name=re.compile("verify"))).to_contain_text("alta jobs show")
        expect(section(page, "What needs attention")).to_contain_text("The last job, verify, failed:")


def test_a_service_that_takes_no_jobs_offers_none(own_archive: Settings, page: Page) -> None:
    with live(own_archive) as url:
        look(page, url)
        expect(section(page, "Jobs")).to_contain_text("This service takes no jobs (ALTA_RECEIVE=1 lets it)")
        expect(section(page, "Jobs").get_by_role("button")).to_have_count(0)


def test_it_refreshes_only_while_it_is_looked_at_and_not_paused(settings: Settings, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/v1/operations") else None)

    def asks() -> None:
        before = len(asked)

        def went_on() -> bool:
            page.clock.run_for(5000)
            return len(asked) > before

        until(went_on, "the page asks again")

    def stays_silent() -> None:
        page.clock.run_for(1000)  # what was under way has been heard of
        before = len(asked)
        page.clock.run_for(60_000)
        assert len(asked) == before

    page.clock.install()
    with live(settings) as url:
        look(page, url)
        asks()
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
        stays_silent()
        page.get_by_role("button", name="Pause").click()
        asks()
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        stays_silent()
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        asks()
