"""What is dropped on the page: folders, zip files, several studies, files of other kinds, hostile ones."""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from index import build_generation, migrate, open_catalog
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.live_service import live
from tests.peers import file_bytes
from tests.service_samples import A1, Film, png, settings_for, take_in

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

NOW = Film("1.2.9.1", 5, patient="P9", date="20240101")
BEFORE = Film("1.2.9.2", 3, patient="P9", date="20230101")
LONG_AGO = Film("1.2.9.3", 3, patient="P9", date="20130101")
OTHERS = Film("1.2.9.4", 3, patient="P8", date="20230601")


@pytest.fixture(scope="module")
def url(archive_folder: Path) -> Iterator[str]:
    with live(settings_for(archive_folder, max_files=4, max_upload_mb=1)) as found:
        yield found


def zipped(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def drop(page: Page, **files: bytes) -> None:
    given = [{"name": name.replace("_", "."), "mimeType": "", "buffer": data} for name, data in files.items()]
    page.set_input_files("#files", given)


def read(page: Page) -> str:
    expect(page.locator("#news")).to_contain_text("found")
    return page.locator(".recognised").inner_text()


def slice_of_ct(number: int) -> bytes:
    return file_bytes(chest_dataset("1.2.9.1", sop=f"1.2.9.1.77.{number}", Modality="CT"))


def test_a_disc_in_a_zip_file_becomes_a_study_and_its_prior(page: Page, url: str) -> None:
    page.goto(url)
    directory = (
        Film("1.2.9.1", 1).dicom().replace(b"1.2.840.10008.5.1.4.1.1.1.1\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0\0\0", 1)
    )
    disc = {
        "DICOMDIR": directory,
        "IMG/now.dcm": NOW.dicom(),
        "IMG/before.dcm": BEFORE.dicom(),
        "IMG/old.dcm": LONG_AGO.dicom(),
        "IMG/other.dcm": OTHERS.dicom(),
        "IMG/copy.dcm": NOW.dicom(),
        "__MACOSX/IMG/._now.dcm": b"resource fork",
        "autorun.inf": b"[autorun]",
        **{f"CT/{number}": slice_of_ct(number) for number in range(20)},
    }
    drop(page, disc_zip=zipped(disc))
    told = read(page)
    for line in (
        "now.dcm\nfrontal (PA, by its header)",
        "before.dcm\nprior, frontal (PA, by its header)",
        "The prior study that was sent is read as well.",
        "The same image once more.",
        "DICOMDIR\nleft out: The list of contents of a disc (DICOMDIR), no image.",
        "20 files: 0, 1, 2, …\nleft out: Not a radiograph: modality CT.",
        "2 files: other.dcm, old.dcm\nleft out: Of another study.",
        "autorun.inf\nleft out: Neither DICOM, JPEG nor PNG.",
    ):
        assert line in told, told
    assert "_now" not in told
    choice = page.get_by_role("combobox", name="studies were dropped")
    assert choice.locator("option").all_inner_texts()[0] == "Study of 2024-01-01, 1 file"
    choice.select_option("Study of 2023-01-01, 1 file")
    with page.expect_response("**/v1/search") as asked:
        page.get_by_role("button", name="Use it").click()
    query = asked.value.json()["query"]
    assert (query["study_instance_uid"], query["prior_source"]) == (BEFORE.study, "uploaded")  # the one of 2013


def test_file_names_are_not_sent(page: Page, url: str) -> None:
    page.add_init_script("""
      const send = XMLHttpRequest.prototype.send;
      window.sent = [];
      XMLHttpRequest.prototype.send = function (form) {
        window.sent.push(...[...form.values()].filter((value) => value instanceof File).map((file) => file.name));
        send.call(this, form);
      };
    """)
    page.goto(url)
    drop(page, Secret_dcm=NOW.dicom())
    read(page)
    assert page.evaluate("window.sent") == ["image"]


def test_a_folder_is_chosen_whole(page: Page, url: str, tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "IM0001").write_bytes(NOW.dicom())
    (tmp_path / "series" / "CT0001").write_bytes(slice_of_ct(1))
    page.goto(url)
    page.set_input_files("#folder", tmp_path)
    assert "IM0001\nfrontal" in read(page)


def test_a_refused_file_is_told_with_its_reason(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, film_dcm=NOW.dicom()[:900])
    alert = page.get_by_role("alert").filter(has_text=".")
    expect(alert).to_contain_text("The file is incomplete")
    expect(page.locator("#query .refused")).to_contain_text("film.dcm")
    page.get_by_role("button", name="Another study").click()
    expect(page.locator("#choose-files")).to_be_focused()
    expect(page.locator("#problem")).to_be_empty()


def test_a_film_that_is_refused_is_shown_all_the_same(page: Page, url: str) -> None:
    page.goto(url)
    drop(page, hip_dcm=Film("1.2.9.6", 3, body_part="HIP").dicom())
    expect(page.locator("#problem")).to_contain_text("Expected body part CHEST or THORAX, found HIP.")
    expect(page.get_by_role("img", name="Your study, not searched with")).to_be_visible()


def test_nothing_usable_and_too_much_are_told_before_anything_is_sent(page: Page, url: str) -> None:
    page.goto(url)
    page.on("request", lambda request: page.faults.append(request.url) if "search" in request.url else None)  # type: ignore[attr-defined]
    drop(page, a_dcm=slice_of_ct(1), b_dcm=slice_of_ct(2))
    alert = page.get_by_role("alert").filter(has_text=".")
    expect(alert).to_contain_text("No radiograph among the files")
    drop(page, big_png=png() + bytes(2**20))
    expect(alert).to_contain_text("the service takes 1 at once")
    encrypted = bytearray(zipped({"now.dcm": NOW.dicom()}))
    at = encrypted.rindex(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    drop(page, secret_zip=bytes(encrypted))
    expect(alert).to_contain_text("encrypted")
    drop(page, half_zip=zipped({"now.dcm": NOW.dicom()})[:300])
    expect(alert).to_contain_text("The zip file is incomplete.")


def test_a_zip_bomb_is_not_unpacked(page: Page, url: str) -> None:
    bomb = bytearray(zipped({"bomb.dcm": bytes(50 * 2**20)}))
    at = bomb.rindex(b"PK\x01\x02")
    bomb[at + 24 : at + 28] = struct.pack("<I", 1000)  # it says that it is small
    page.goto(url)
    drop(page, bomb_zip=bytes(bomb))
    expect(page.get_by_role("alert").filter(has_text=".")).to_contain_text("is larger than the zip file says")


def nested() -> Dataset:
    """A header in which sequences stand before the elements that are looked for."""
    dataset = chest_dataset("1.2.9.5")
    inner = Dataset()
    inner.StudyDate = "19990101"
    inner.Modality = "CT"
    middle = Dataset()
    middle.ReferencedImageSequence = Sequence([inner, Dataset()])
    dataset.ReferencedStudySequence = Sequence([middle])
    return dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_headers_are_read_as_pydicom_reads_them(page: Page, url: str, syntax: str, undefined: bool) -> None:
    dataset = nested()
    dataset.file_meta.TransferSyntaxUID = syntax
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    page.goto(url)
    script = """async bytes => {
      const { readHeader } = await import('/assets/modules/dicom_header.js');
      return readHeader(new Blob([new Uint8Array(bytes)]));
    }"""
    found = page.evaluate(script, list(stream.getvalue()))
    assert (found["study"], found["date"], found["modality"], found["patient"]) == ("1.2.9.5", "20240301", "CR", "P1")
    assert (found["sopInstance"], found["transferSyntax"]) == (dataset.SOPInstanceUID, syntax)
    assert not found["isDirectory"]
    for length in (0, 50, 131, 200, 333, 600):  # no truncated file breaks the page
        page.evaluate(script, list(stream.getvalue()[:length]))


def test_what_a_report_says_is_text_and_never_markup(page: Page, own_archive: Settings, tmp_path: Path) -> None:
    source = tmp_path / "hostile"
    source.mkdir()
    (source / "film.dcm").write_bytes(Film(A1, 0, extra={"InstitutionName": "<b>Clinic</b>"}).dicom())
    (source / "reports.csv").write_text(
        f'study_instance_uid,findings\n{A1},"<img src=x onerror=alert(1)> Opacity & <script>alert(2)</script>."\n'
    )
    take_in(own_archive, source)
    migrate(own_archive.catalog_url)
    catalog = open_catalog(own_archive.catalog_url)
    build_generation(catalog, own_archive.generations_dir, FakeEncoder().fingerprint)
    catalog.close()
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))  # type: ignore[attr-defined]
    with live(own_archive) as url:
        page.goto(f"{url}/#text=Opacity.")
        expect(page.locator(".card", has_text="<img src=x onerror=alert(1)>")).to_be_visible()
        assert page.locator(".report img, .report script, .card b").count() == 0
