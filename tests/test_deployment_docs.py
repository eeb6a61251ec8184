"""The deployment part of docs/operations.md: what it tells to type fits the files that it is typed for."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import WriteDicom
from tests.deployed import DEPLOY, ENV_EXAMPLE, ROOT, compose, manifests
from tests.documented import Block, blocks_of, require_command
from tests.test_cli import Alta, alta
from tests.tiny import write_tiny_checkpoint

__all__ = ["alta"]

PAGE = "docs/operations.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
PART = TEXT[TEXT.index("## First deployment") : TEXT.index("## Size")]
BLOCKS = [block for block in blocks_of(PAGE) if block.text in PART]
SERVICES = {**compose()["services"], **compose("deploy/compose.orthanc.yml")["services"]}


def lines(block: Block) -> list[str]:
    """Its commands, one a line, joined where they go on, parted where `&&` joins them."""
    joined = block.text.replace("\\\n", " ")
    return [line for whole in joined.splitlines() for line in whole.partition("  #")[0].split(" && ") if line.strip()]


COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in lines(block)]
INLINE = [shlex.split(words) for words in re.findall(r"`((?:docker|kubectl) [^`]+)`", PART)]


def of_compose(words: list[str]) -> tuple[list[str], list[str]]:
    """Options and what follows: the subcommand and its words."""
    rest, options = words[2:], []
    while rest and rest[0].startswith("-"):
        options += [rest.pop(0), rest.pop(0)]
    return options, rest


@pytest.mark.parametrize("words", [w for w in COMMANDS + INLINE if w[:2] == ["docker", "compose"]], ids=" ".join)
def test_services_profiles_and_files_that_compose_is_asked_for_exist(words: list[str]) -> None:
    options, (command, *rest) = of_compose(words)
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name == "--profile":
            assert any(value in service.get("profiles", ()) for service in SERVICES.values())
        else:
            assert name == "-f" and (ROOT / value).is_file()
    if command == "run":
        assert rest[0] == "--rm" and rest[1] in SERVICES
        require_command(shlex.join(["alta", *rest[2:]]), as_it_stands=True)
    elif command == "logs":
        assert rest[-1] in SERVICES
    else:
        assert command in ("build", "up") and all(word.startswith("-") for word in rest)


def named_resources() -> set[str]:
    short = {"Job": "job", "Deployment": "deploy"}
    found = manifests("base", "components/dicom")
    return {f"{short[one['kind']]}/{one['metadata']['name']}" for one in found if one["kind"] in short}


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] == "kubectl"], ids=" ".join)
def test_what_kubectl_is_asked_for_exists(words: list[str]) -> None:
    for word in words:
        if word.startswith(("job/", "deploy/alta")):
            assert word in named_resources()
        if word.startswith("deploy/kubernetes"):
            assert (ROOT / word).exists()
    if words[1] == "exec":
        require_command(shlex.join(words[words.index("--") + 1 :]), as_it_stands=True)
    if words[1:3] == ["create", "secret"]:
        ingress = next(one for one in manifests("base") if one["kind"] == "Ingress")
        assert words[4] == ingress["spec"]["tls"][0]["secretName"]


def test_what_is_to_be_replaced_is_where_it_says() -> None:
    kubernetes = DEPLOY / "kubernetes"
    with_host = {
        path.relative_to(kubernetes).as_posix() for path in kubernetes.rglob("*.yaml") if "://" not in path.name
    }
    with_host = {name for name in with_host if "alta.hospital.example" in (kubernetes / name).read_text()}
    assert with_host == {"base/service.yaml", "base/ingress.yaml"}
    addressed = re.compile(r"\d+\.\d+\.\d+\.\d+/\d+")
    with_address = {path.name for path in kubernetes.rglob("*.yaml") if addressed.search(path.read_text())}
    assert with_address == {"network.yaml", "settings.yaml", "receive.yaml"}
    for name in re.findall(r"`((?:base|components|overlays)/[\w/*.]+)`", PART):
        assert list(kubernetes.glob(name)), name


def test_files_and_variables_that_are_named_exist() -> None:
    assert ["cp", "deploy/env.example", ".env"] in COMMANDS and (ROOT / "deploy/env.example").is_file()
    assert set(re.findall(r"DEPLOY_[A-Z_]+", PART)) <= set(ENV_EXAMPLE)
    assert f"`{ENV_EXAMPLE['DEPLOY_SETTINGS'].removeprefix('./')}`" in PART
    secrets = set(re.findall(r"data/secrets/(\w+)", PART))
    assert secrets == set(compose()["secrets"]) and ENV_EXAMPLE["DEPLOY_SECRETS"] == "./data/secrets"
    tls = {Path(path).name for path in re.findall(r"/etc/nginx/tls/(\S+);", (DEPLOY / "nginx/nginx.conf").read_text())}
    assert {Path(path).name for path in re.findall(r"data/tls/([\w.]+)", PART)} == tls
    assert SERVICES["proxy"]["user"].split(":")[0] == next(
        words[2] for words in COMMANDS if words[:2] == ["sudo", "chown"]
    )
    for port in re.findall(r"http://(127\.0\.0\.1:\d+)", PART):
        assert any(published.startswith(f"{port}:") for one in SERVICES.values() for published in one.get("ports", ()))


def test_the_certificate_to_try_with_is_one(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent")
    (block,) = [block for block in BLOCKS if block.text.startswith("openssl req")]
    (tmp_path / "data/tls").mkdir(parents=True)
    subprocess.run(["bash", "-ec", block.text], cwd=tmp_path, check=True, capture_output=True)
    shown = ["openssl", "x509", "-in", "data/tls/alta.pem", "-noout", "-ext", "subjectAltName"]
    assert b"DNS:localhost" in subprocess.run(shown, cwd=tmp_path, check=True, capture_output=True).stdout
    assert (tmp_path / "data/tls/alta.key").stat().st_mode & 0o077 == 0


def test_what_is_typed_in_that_order_makes_an_archive_that_can_be_searched(
    alta: Alta, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    """Without an engine: what `docker compose run` hands to the product, in this process, with an /archive of ours."""
    write_tiny_checkpoint(tmp_path / "encoders")
    for number in range(3):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")
    (tmp_path / "archive/reports.csv").write_text("accession_number,text\nA0,Effusion.\nA1,Clear.\nA2,Clear.\n")
    first = next(block for block in BLOCKS if block.text.startswith("cp deploy/env.example"))
    handed = [words[5:] for line in lines(first) if (words := shlex.split(line, comments=True))[2:4] == ["run", "--rm"]]
    assert [words[0] for words in handed] == ["keys", "ingest", "embed", "index", "doctor"]
    for words in handed:
        code, out, err = alta(*[word.replace("/archive", str(tmp_path / "archive")) for word in words])
        assert code == 0, out + err
    assert "3 studies, 3 reports" in alta("index", "status")[1]
