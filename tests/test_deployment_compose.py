"""docker-compose.yml beyond its schema: what it names exists, fits together, and keeps to the rules it is made by."""

import json
import re
import shlex
import tomllib
from ipaddress import ip_network
from typing import Any

import pytest

from service.settings import Settings
from tests.deployed import DEPLOY, ENV_EXAMPLE, ROOT, compose, settings_of, variables, written_files
from tests.documented import require_command

FILE = compose()
PACS = "deploy/compose.orthanc.yml"
SERVICES: dict[str, dict[str, Any]] = {**FILE["services"], **compose(PACS)["services"]}
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("alta:")]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SEALED = sorted(set(SERVICES) - {"orthanc"})  # whose image writes its own configuration


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def test_every_setting_that_a_deployment_names_exists() -> None:
    named = {name for path in written_files() for name in re.findall(r"\bALTA_([A-Z0-9_]+)", path.read_text())}
    assert len(named) > 12
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_what_can_be_chosen_is_listed() -> None:
    files = (ROOT / "docker-compose.yml", *DEPLOY.glob("compose.*.yml"))
    assert {name for file in files for name in variables(file.read_text())} == set(ENV_EXAMPLE)


def test_the_list_says_what_happens_without_it() -> None:
    given = {name: value for name, value in ENV_EXAMPLE.items() if value}
    assert compose(**given) == compose()
    over = "deploy/compose.gpu.yml"
    assert compose(over, **given) == compose(over)


def test_settings_that_are_the_hospitals_to_choose_are_taken_from_their_file() -> None:
    """`environment` wins over `env_file`: what stands there, even empty, makes a line of that file go unheeded."""
    decided = {name for service in SERVICES.values() for name in service.get("environment", ()) if "ALTA_" in name}
    assert not decided & {"ALTA_MODEL_PATH", "ALTA_RECEIVE", "ALTA_RETURN_ROUTES", "ALTA_OIDC_ISSUER"}
    assert all(name.startswith("DEPLOY_") for name in ENV_EXAMPLE)


def test_without_a_password_nothing_starts() -> None:
    with pytest.raises(AssertionError, match="DEPLOY_DB_PASSWORD"):
        compose(DEPLOY_DB_PASSWORD="")
    with pytest.raises(AssertionError, match="DEPLOY_ORTHANC_PASSWORD"):
        compose(PACS, DEPLOY_ORTHANC_PASSWORD="")
    assert compose(DEPLOY_ORTHANC_PASSWORD="")  # of who wants no PACS


def test_images_are_named_by_this_version() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {f"alta:{VERSION}-cpu"}


def test_nobody_is_in_utc_unasked() -> None:
    with pytest.raises(AssertionError, match="DEPLOY_TZ"):
        compose(DEPLOY_TZ="")
    assert {SERVICES[name]["environment"]["TZ"] for name in OURS} == {"Europe/Berlin"}


@pytest.mark.parametrize("name", OURS)
def test_the_product_takes_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of({"ALTA_HOST": "0.0.0.0", **SERVICES[name]["environment"]}, monkeypatch)
    assert settings.catalog_url == "postgresql+psycopg://alta@database/alta"
    assert SERVICES[name]["environment"]["PGPASSWORD"] == SERVICES["database"]["environment"]["POSTGRES_PASSWORD"]


@pytest.mark.parametrize("name", OURS)
def test_its_commands_exist(name: str) -> None:
    require_command(shlex.join(["alta", *SERVICES[name].get("command", ["serve"])]), as_it_stands=True)


@pytest.mark.parametrize("name", SEALED)
def test_containers_can_write_nowhere_else_and_become_nobody_else(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "user" in service or service["image"].startswith(("alta:", "prom/", "grafana/"))  # whose images name one


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_containers_have_no_privileges_and_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert "healthcheck" in service or name == "alta"  # the image's own
    assert not service["image"].endswith(":latest") and ":" in service["image"]


def test_only_the_proxy_can_be_reached_from_other_machines() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.pop("proxy") == ["443:8443"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_whom_the_service_believes_is_the_proxy() -> None:
    (subnet,) = json.loads(SERVICES["alta"]["environment"]["ALTA_TRUSTED_PROXIES"])
    assert FILE["networks"]["front"]["ipam"]["config"] == [{"subnet": subnet}] and ip_network(subnet)
    assert {name for name, service in SERVICES.items() if "front" in service["networks"]} == {"alta", "proxy"}


def test_the_database_is_reached_by_the_product_alone_and_reaches_nobody() -> None:
    assert FILE["networks"]["database"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "database" in service["networks"]} == {*OURS, "database"}
    assert SERVICES["database"]["networks"] == ["database"]


def test_everything_waits_for_the_schema() -> None:
    for name in set(OURS) - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["restart"] == "no" and SERVICES["migrate"]["command"] == ["db", "upgrade"]


def test_the_service_has_the_time_to_end_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(SERVICES["alta"]["environment"], monkeypatch)
    assert seconds(SERVICES["alta"]["stop_grace_period"]) >= settings.drain_s + settings.shutdown_timeout_s + 5


def test_uploads_fit_into_the_temporary_folder_and_that_into_memory() -> None:
    settings = Settings()
    size = int(re.search(r"size=(\d+)g", SERVICES["alta"]["tmpfs"][0])[1]) * 2**30
    assert size >= settings.max_requests * settings.max_upload_bytes
    decoding = settings.decode_workers * 2 * 2**30
    assert int(SERVICES["alta"]["deploy"]["resources"]["limits"]["memory"].rstrip("g")) * 2**30 >= size + decoding


def test_files_that_are_mounted_exist() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    for volume in mounted:
        if volume.startswith("./deploy"):
            assert (ROOT / volume.split(":")[0]).exists() and volume.endswith(":ro"), volume
        elif not volume.startswith("./"):
            assert volume.split(":")[0] in FILE["volumes"], volume


def test_secrets_and_networks_that_are_used_are_declared() -> None:
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(FILE["networks"])
        assert set(service.get("secrets", ())) <= set(FILE["secrets"])


def test_what_is_optional_is_off_unless_asked_for() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {
        "receive": ["receive"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }
    for name in set(SERVICES) - set(profiles):
        assert not set(SERVICES[name].get("depends_on", ())) & set(profiles)


def test_the_pacs_to_try_with_sends_to_the_listener() -> None:
    pacs = json.loads((DEPLOY / "orthanc/orthanc.json").read_text())
    title, host, port = pacs["DicomModalities"]["alta"]
    command = SERVICES["receive"]["command"]
    assert host == "receive" and str(port) == command[command.index("--port") + 1] and title == "ALTA"
    assert pacs["DicomAet"] == command[command.index("--allow") + 1]
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(pacs))) <= set(SERVICES["orthanc"]["environment"])
    assert set(SERVICES["orthanc"]["networks"]) & set(SERVICES["receive"]["networks"])


def test_the_gpu_file_changes_services_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    over = compose("deploy/compose.gpu.yml")["services"]
    assert sorted(over) == sorted(OURS)
    for name in OURS:
        assert over[name]["image"] == f"alta:{VERSION}-cuda" and over[name]["build"]["args"] == {"VARIANT": "cuda"}
        assert settings_of(over[name].get("environment", {}), monkeypatch)
    with_gpu = {name for name in over if "deploy" in over[name]}
    assert with_gpu == {"alta", "worker"}  # those that encode
