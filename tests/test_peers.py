"""The peers that other tests lean on answer as they should."""

from pathlib import Path

from tests.conftest import WriteDicom, chest_dataset
from tests.peers import Dcmtk, Orthanc, free_port


def test_orthanc_starts_empty_and_gives_back_what_it_was_given(orthanc: Orthanc) -> None:
    assert orthanc.sop_instance_uids() == set()
    orthanc.upload(chest_dataset(study="1.2.3.1", seed=1), chest_dataset(study="1.2.3.2", seed=2))
    assert orthanc.sop_instance_uids() == {"1.2.3.1.2", "1.2.3.2.3"}
    studies = orthanc.call("GET", "/dicom-web/studies", headers={"Accept": "application/dicom+json"})
    assert {study["0020000D"]["Value"][0] for study in studies} == {"1.2.3.1", "1.2.3.2"}
    orthanc.delete("Study", "1.2.3.1")
    assert orthanc.sop_instance_uids() == {"1.2.3.2.3"}


def test_orthanc_is_empty_again_for_the_next_test(orthanc: Orthanc) -> None:
    orthanc.upload(chest_dataset())
    orthanc.know("SOMEBODY", free_port())
    orthanc.clear()
    assert orthanc.sop_instance_uids() == set() and orthanc.call("GET", "/modalities") == []


def test_dcmtk_talks_to_orthanc(orthanc: Orthanc, dcmtk: Dcmtk, write_dicom: WriteDicom) -> None:
    peer = ("-aec", orthanc.ae_title, orthanc.host, orthanc.dicom_port)
    assert dcmtk("echoscu", *peer).returncode == 0
    path: Path = write_dicom("a.dcm", study="1.2.3.7")
    stored = dcmtk("storescu", *peer, path)
    assert stored.returncode == 0, stored.stdout
    assert orthanc.sop_instance_uids() == {"1.2.3.7.1"}
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
    found = dcmtk("findscu", "-S", *peer, *keys)
    assert found.returncode == 0 and "1.2.3.7" in found.stdout
