"""The clinician's page in a real browser: from a study or a phrase to past studies."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.live_service import live
from tests.service_samples import A2, Film, png, settings_for

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

Look = Callable[[], list[str]]

TABLET = {"width": 820, "height": 1180}
VIEWER = "https://viewer.example/studies/{study_instance_uid}?acc={accession_number}"

NEW = Film("1.2.9.1", 5, patient="P9", date="20240101")


@pytest.fixture(scope="module")
def url(archive_folder: Path) -> Iterator[str]:
    with live(settings_for(archive_folder, viewer_url=VIEWER, max_files=4, max_upload_mb=1)) as found:
        yield found


def file(name: str, data: bytes) -> dict:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def drop(page: Page, *files: dict) -> None:
    page.set_input_files("#files", list(files))


def hits(page: Page) -> list[str]:
    expect(page.locator("#news")).to_contain_text("found")
    return page.locator(".card h3").all_inner_texts()


def map_is_shown(page: Page, canvas: str = "#query canvas.over") -> bool:
    """Whether anything is painted over the film."""
    script = """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""
    return bool(page.locator(canvas).first.evaluate(script))


def test_a_study_is_dropped_and_its_like_are_found(page: Page, url: str, serious_violations: Look) -> None:
    page.goto(url)
    expect(page.get_by_role("note")).to_contain_text("For research, not for diagnosis.")
    lateral = Film(NEW.study, 6, patient="P9", view="LL", date="20240101")
    drop(page, file("pa.dcm", NEW.dicom()), file("lat.dcm", lateral.dicom()))
    assert len(hits(page)) == 4

    read = page.get_by_role("region", name="What was recognised")
    expect(read).to_contain_text("pa.dcm frontal (PA, by its header)")
    expect(read).to_contain_text("lat.dcm lateral (LL, by its header)")
    expect(read).to_contain_text("No prior study of this patient was found")
    findings = page.get_by_role("region", name="Findings of the study")
    expect(findings).to_contain_text("no probabilities")
    expect(findings.get_by_role("row", name="Pleural Effusion")).to_be_visible()

    first = page.locator(".card").first
    expect(first).to_contain_text("2021-06-01, 51 years, female, DX")
    expect(first.locator(".chip.present")).to_have_text("+ Pleural Effusion, left")
    expect(first.locator("mark")).to_have_text("Small left pleural effusion.")
    link = first.get_by_role("link", name="Open in viewer")
    assert link.get_attribute("href") == f"https://viewer.example/studies/{A2}?acc=A2"
    assert link.get_attribute("rel") == "noopener noreferrer"
    expect(page.locator(".summary")).to_contain_text("pleural effusion")
    assert serious_violations() == []
    page.set_viewport_size(TABLET)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways on a tablet"


def test_a_sentence_shows_its_place_on_the_film(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, file("pa.dcm", NEW.dicom()))
    hits(page)
    expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible()
    assert not map_is_shown(page)
    sentence = page.locator(".card mark").first
    sentence.hover()
    expect(page.locator("#query .legend")).to_contain_text(f"Where the encoders see “{sentence.inner_text()}”")
    expect(page.locator("#query .legend")).to_contain_text("no proof of a finding")
    assert map_is_shown(page)
    page.mouse.move(5, 5)
    expect(page.locator("#query .legend span")).to_be_empty()
    assert not map_is_shown(page)
    sentence.click()  # stays, for a finger has no way to point
    page.mouse.move(5, 5)
    expect(sentence).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#query .legend")).to_contain_text(sentence.inner_text())
    page.get_by_role("button", name="Support Devices", exact=True).click()
    expect(page.locator("#query .legend")).to_contain_text("“Support Devices.”")


def test_words_find_studies_and_filters_narrow_them(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Find studies that show").fill("Small left pleural effusion.")
    page.get_by_role("button", name="Search", exact=True).click()
    assert len(hits(page)) == 4
    expect(page.locator("#query")).to_be_hidden()
    assert page.url == f"{url}/"  # what is typed stays out of the browser's history
    page.get_by_text("Filters and ranking").click()
    page.get_by_role("combobox", name="Sex").select_option("female")
    page.get_by_label("Age from").fill("40")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#filters-told")).to_have_text("(2 set)")
    page.get_by_role("combobox", name="Report asserts").select_option("Pneumothorax")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#results")).to_contain_text("No study fits. Are the filters too narrow?")
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Age from").fill("70")
    page.get_by_label("Age to").fill("40")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="age_min")).to_contain_text("age_min 70 is over age_max 40.")


def test_like_this_but_with_something_else(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, file("pa.dcm", NEW.dicom()))
    hits(page)
    page.get_by_label("Like this study, but with").fill("Pacemaker in place.")
    page.get_by_label("and rather without").fill("Small left pleural effusion.")
    with page.expect_response("**/v1/search") as asked:
        page.get_by_role("button", name="Search", exact=True).click()
    ranking = asked.value.json()["ranking"]
    assert ranking["text_weight"] > 0 and ranking["without_weight"] > 0
    assert "2022-01-01" in hits(page)[0]  # the one with a pacemaker


def test_the_list_is_exported_and_a_report_copied(page: Page, url: str) -> None:
    page.goto(f"{url}/#text=Cardiomegaly.")
    hits(page)
    with page.expect_download() as loaded:
        page.get_by_role("button", name="Export as CSV").click()
    text = Path(loaded.value.path()).read_text("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert {row["study_instance_uid"] for row in rows} >= {A2}
    assert all(row["model_fingerprint"] == "f" * 64 for row in rows)
    assert any("Pacemaker in place." in row["report"] for row in rows)
    page.locator(".card", has_text="Pacemaker").get_by_role("button", name="Copy report").click()
    expect(page.locator("#toast")).to_have_text("Report copied.")
    assert "Pacemaker in place." in page.evaluate("navigator.clipboard.readText()")


def test_a_hit_is_compared_and_searched_with(page: Page, url: str, serious_violations: Look) -> None:
    page.goto(url)
    drop(page, file("film.png", png(5)))
    hits(page)
    page.get_by_role("button", name="Side by side").first.click()
    dialog = page.get_by_role("dialog", name="Side by side")
    expect(dialog.get_by_role("img")).to_have_count(2)
    expect(dialog.get_by_role("img", name="Hit 1, frontal")).to_be_visible()
    dialog.locator("mark").first.hover()
    expect(dialog.locator(".legend").nth(0)).to_contain_text("Where the encoders see")
    expect(dialog.locator(".legend").nth(1)).to_contain_text("Where the encoders see")
    assert serious_violations() == []
    dialog.get_by_role("button", name="Search with this").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#query")).to_contain_text("Archived study of")
    assert len(hits(page)) == 3  # not the study itself
    assert "#study=" in page.url


def test_a_link_of_the_pacs_opens_a_study_of_the_archive(page: Page, url: str) -> None:
    page.goto(f"{url}/#study={A2}")
    hits(page)
    expect(page.locator("#query")).to_contain_text("Archived study of 2021-06-01")
    expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible()
    page.goto(f"{url}/#study=1.2.404")
    expect(page.get_by_role("alert").filter(has_text="Unknown study")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)  # nothing of the patient before stays
    expect(page.locator("#query")).to_be_hidden()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
    page.goto(f"{url}/#accession=A2")
    hits(page)
    expect(page.locator("#query")).to_contain_text("Archived study of 2021-06-01")
    assert page.url.endswith(f"#study={A2}")
    assert [path for path in asked if "similar?" in path or "search" in path] == ["/v1/search"]
    assert "/v1/studies?accession_number=A2" in asked
    page.goto(f"{url}/#accession=none")
    expect(page.get_by_role("alert").filter(has_text="Unknown study")).to_be_visible()


def test_everything_is_done_with_the_keyboard_alone(page: Page, url: str) -> None:
    # Listened for from the beginning, so that the browser opens no window of its own.
    page.on("filechooser", lambda chooser: chooser.set_files([file("pa.dcm", NEW.dicom())]))
    page.goto(url)
    expect(page.locator("#filters label")).not_to_have_count(0)  # the page is ready
    page.keyboard.press("u")
    hits(page)
    page.keyboard.press("j")
    expect(page.locator(".card h3").first).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Side by side")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("Like this study, but with")).to_be_focused()
    page.keyboard.type("Cardiomegaly.")
    with page.expect_response("**/v1/search"):
        page.keyboard.press("Enter")
    hits(page)
    page.locator("#results").focus()
    page.keyboard.press("j")
    for _ in range(12):  # by tab to the report's one stop
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('sentence')"):
            break
    expect(page.locator("#query .legend")).to_contain_text("Where the encoders see")
    before = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.textContent") != before
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize("size", [(64, 160), (160, 64)])
def test_a_film_of_any_shape_is_seen_whole(page: Page, url: str, size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.linspace(0, 255, size[0] * size[1]).reshape(size).astype(np.uint8)).save(stream, "PNG")
    page.goto(url)
    drop(page, file("film.png", stream.getvalue()))
    expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible()
    film, canvas = page.locator("#query .film").bounding_box(), page.locator("#query canvas").first.bounding_box()
    assert film is not None and canvas == film
    assert page.locator("#query canvas").first.evaluate("c => getComputedStyle(c).objectFit") == "contain"


def test_a_film_is_windowed_inverted_and_zoomed(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, file("pa.dcm", NEW.dicom()))
    hits(page)
    film = page.locator("#query .film")
    expect(page.get_by_role("img", name="Your study, frontal")).to_be_visible()

    def pixel() -> int:
        script = "c => c.getContext('2d').getImageData(2, 2, 1, 1).data[0]"
        return int(page.locator("#query canvas").first.evaluate(script))

    as_sent = pixel()
    film.focus()
    page.keyboard.press("i")
    assert pixel() == 255 - as_sent
    expect(page.locator("#query").get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("r")
    assert pixel() == as_sent
    page.get_by_label("Level").first.fill("0.1")
    page.get_by_label("Window").first.fill("0.3")
    assert pixel() > as_sent
    page.keyboard.press("Tab")
    film.focus()
    page.keyboard.press("+")
    assert "scale(1.25)" in str(page.locator("#query .film-layer").evaluate("n => n.style.transform"))
    page.keyboard.press("r")
    assert pixel() == as_sent
