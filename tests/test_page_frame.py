"""The page around the search: keys, a service that is away, the model card, nothing from elsewhere, for everybody."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from index import open_catalog
from index.access.keys import create_key
from service.settings import Settings
from tests.live_service import live
from tests.service_samples import Film, settings_for

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

Look = Callable[[], list[str]]
WIDTHS = (1440, 1024, 820)


@pytest.fixture(scope="module")
def url(archive_folder: Path) -> Iterator[str]:
    with live(settings_for(archive_folder)) as found:
        yield found


def test_the_page_is_for_everybody(page: Page, url: str, serious_violations: Look) -> None:
    page.goto(url)
    expect(page.locator("#filters label")).not_to_have_count(0)
    page.get_by_text("Filters and ranking").click()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert serious_violations() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"scrolls sideways at {width} px"
    page.get_by_role("button", name="Shortcuts").click()
    assert serious_violations() == []


def test_the_notice_stands_and_the_model_card_is_one_click_away(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.get_by_role("note")).to_contain_text("For research, not for diagnosis.")
    page.get_by_role("button", name="Model card").click()
    card = page.get_by_role("dialog", name="Model card")
    expect(card).to_contain_text("f" * 64)
    expect(card).to_contain_text("no probabilities of disease")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_nothing_comes_from_elsewhere_and_no_inline_script_runs(page: Page, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(url)
    assert answer is not None
    expect(page.locator("#filters label")).not_to_have_count(0)
    assert asked and all(each.startswith(url) for each in asked)
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert page.evaluate("window.ran") is None
    page.faults.clear()  # type: ignore[attr-defined] # the policy's own word on it


def test_a_key_is_asked_for_and_kept_for_the_tab(page: Page, own_archive: Settings) -> None:
    catalog = open_catalog(own_archive.catalog_url)
    key, _ = create_key(catalog, "page", ("search",), "test")
    catalog.close()
    with live(own_archive) as url:
        page.goto(f"{url}/#text=Opacity.")
        field = page.get_by_label("This service asks for an API key")
        field.fill("alta_\u200bkey")  # a mark that was copied along
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#key-problem")).to_contain_text("letters, digits and signs only")
        field.fill("alta_wrong")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#key-problem")).to_contain_text("The credentials are not valid")
        field.fill(key)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".card")).not_to_have_count(0)
        expect(page.locator(".card img").first).to_be_visible()  # pictures come with the key, too
        page.set_input_files("#files", [{"name": "a", "mimeType": "", "buffer": Film("1.2.9", 5).dicom()}])
        expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible()
        page.reload()
        expect(page.locator("#filters label")).not_to_have_count(0)
        expect(page.locator("#with-key")).to_be_hidden()
        assert page.evaluate("Object.keys(localStorage).length") == 0


def test_a_service_that_went_away_is_told(page: Page, archive_folder: Path) -> None:
    with live(settings_for(archive_folder)) as url:
        page.goto(url)
        expect(page.locator("#filters label")).not_to_have_count(0)
    page.get_by_label("Find studies that show").fill("Opacity.")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="did not answer")).to_be_visible()
    expect(page.locator("#work")).to_be_hidden()
    page.faults.clear()  # type: ignore[attr-defined] # the connection that was refused
