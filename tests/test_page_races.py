"""Nothing that comes late is shown for what is asked now: answers, films, maps, drops, keys."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.live_service import live
from tests.service_samples import A2, Film, png, settings_for

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

ONE = Film("1.2.9.1", 5, patient="P9", date="20240101")
TWO = Film("1.2.9.2", 10, patient="P8", date="20230101")
LATERAL = Film(ONE.study, 6, patient="P9", view="LL", date="20240101")


@pytest.fixture(scope="module")
def url(archive_folder: Path) -> Iterator[str]:
    with live(settings_for(archive_folder)) as found:
        yield found


class Held:
    """Requests to an address that wait until they are let go."""

    def __init__(self, page: Page, address: str) -> None:
        self.routes: list[Route] = []
        self._page, self._address = page, address
        page.route(address, lambda route: self.routes.append(route))

    def seen(self, count: int) -> None:
        self._page.wait_for_timeout(1)
        while len(self.routes) < count:
            self._page.wait_for_timeout(20)

    def let_go(self) -> None:
        self._page.unroute(self._address)
        for route in self.routes:
            with contextlib.suppress(Error):  # the page has given it up itself
                route.continue_()
        self._page.wait_for_timeout(300)


def drop(page: Page, *films: bytes) -> None:
    page.set_input_files(
        "#files", [{"name": f"{n}.dcm", "mimeType": "", "buffer": film} for n, film in enumerate(films)]
    )


def shown(page: Page, name: str = "Your study, frontal") -> None:
    expect(page.get_by_role("img", name=name)).to_be_visible()


def painted(page: Page) -> bool:
    script = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    return bool(page.locator("#query canvas.over").evaluate(script))


def test_a_map_of_one_film_is_not_painted_over_another(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, ONE.dicom())
    shown(page)
    maps = Held(page, "**/v1/similarity-map")
    page.locator(".card mark").first.hover()
    maps.seen(1)
    page.get_by_role("button", name="Search with this").first.click()
    expect(page.locator("#query")).to_contain_text("Archived study of")
    shown(page)
    maps.let_go()
    assert not painted(page)
    expect(page.locator("#query .legend span")).to_be_empty()


def test_lateral_films_have_no_map_and_the_view_is_the_chosen_one(page: Page, url: str) -> None:
    page.goto(url)
    films = Held(page, "**/v1/rendering")
    drop(page, ONE.dicom(), LATERAL.dicom())
    films.seen(1)
    page.get_by_role("combobox", name="View").select_option("lateral")
    films.seen(2)
    films.let_go()
    shown(page, "Your study, lateral")
    page.locator(".card mark").first.hover()
    expect(page.locator("#query .legend")).to_contain_text("Maps are of the frontal image only.")
    assert not painted(page)


def test_the_last_study_that_was_dropped_is_the_one_that_is_shown(page: Page, url: str) -> None:
    page.goto(url)
    searches = Held(page, "**/v1/search")
    drop(page, ONE.dicom())
    searches.seen(1)
    drop(page, TWO.dicom())
    searches.seen(2)
    searches.let_go()
    expect(page.locator("#news")).to_contain_text("found")
    expect(page.locator("#query")).to_contain_text("Study of 2023-01-01")
    assert "0.dcm" in page.locator(".recognised").inner_text()


def test_another_study_is_asked_without_what_was_asked_of_the_one_before(page: Page, url: str) -> None:
    page.goto(f"{url}/#study={A2}")
    shown(page)
    page.get_by_label("Like this study, but with").fill("Cardiomegaly.")
    page.get_by_label("and rather without").fill("Pacemaker.")
    with page.expect_response("**/v1/search") as asked:
        drop(page, ONE.dicom())
    ranking = asked.value.json()["ranking"]
    assert (ranking["text_weight"], ranking["without_weight"]) == (None, None)
    assert page.url == f"{url}/"


def test_what_was_stopped_stays_stopped(page: Page, url: str) -> None:
    page.goto(url)
    searches = Held(page, "**/v1/search")
    drop(page, ONE.dicom())
    searches.seen(1)
    page.get_by_role("button", name="Stop").click()
    searches.let_go()
    expect(page.locator("#news")).to_have_text("Stopped.")
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Another study").click()
    expect(page.locator("#choose-files")).to_be_focused()


def test_a_page_that_began_while_the_service_was_away_goes_on_once_it_is_back(page: Page, url: str) -> None:
    page.route("**/v1/model", lambda route: route.fulfill(status=503, body="{}"))
    page.goto(url)
    expect(page.locator("#problem")).not_to_be_empty()
    page.unroute("**/v1/model")
    drop(page, png(5))
    shown(page)
    expect(page.locator("#problem")).to_be_empty()
    page.faults[:] = [fault for fault in page.faults if "503" not in fault]  # type: ignore[attr-defined]


def test_a_list_that_cannot_go_on_says_why(page: Page, url: str) -> None:
    page.route("**/v1/search", lambda route: _with_cursor(route))
    page.goto(f"{url}/#text=Opacity.")
    page.get_by_role("button", name="More").click()
    expect(page.get_by_role("alert").filter(has_text="Not a cursor of this archive")).to_be_visible()
    expect(page.get_by_role("button", name="More")).to_be_enabled()


def _with_cursor(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json=answer.json() | {"next_cursor": "no-cursor"})


def test_a_slow_drag_counts_as_much_as_a_fast_one(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, ONE.dicom())
    shown(page)
    film = page.locator("#query .film").bounding_box()
    assert film is not None
    x, y = film["x"] + film["width"] / 2, film["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 100, steps=100)
    page.mouse.up()
    level = float(page.locator("#query").get_by_label("Level").input_value())
    assert level == pytest.approx(0.5 + 100 / film["height"], abs=0.02)


def test_single_keys_can_be_switched_off(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("The first three act anywhere on the page").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Find studies that show")).not_to_be_focused()


def test_a_filter_that_cannot_be_used_is_shown(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("Filters and ranking").click()
    page.get_by_label("Age from").fill("200")
    page.get_by_text("Filters and ranking").click()
    page.get_by_label("Find studies that show").fill("Opacity.")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_label("Age from")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
