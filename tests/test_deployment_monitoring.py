"""Dashboard, alert rules and scrape configuration ask for what the service exposes, and mean what they say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.deployed import DEPLOY, ROOT, compose
from tests.documented import require_command
from tests.service_samples import form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/alta.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in PANELS}
ASKED = [query for queries in QUERIES.values() for query in queries] + [rule["expr"] for rule in RULES]
OF_PROMETHEUS = {"job", "instance"}  # labels that it adds itself
STATUSES = {"2xx", "3xx", "4xx", "5xx", "none"}

Exposed = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def service(archive_folder: Path) -> TestClient:
    with serve(settings_for(archive_folder)) as client:
        yield client


@pytest.fixture(scope="module")
def exposed(service: TestClient) -> Exposed:
    """Values of each label of each metric of a service that has answered and refused."""
    service.post("/v1/search", files=form(png(), b"no picture"))
    service.post("/v1/search/text-to-image", json={"text": "effusion"})
    found: Exposed = {"up": {}}
    for family in text_string_to_metric_families(service.get("/metrics").text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def selectors(query: str) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Metrics of a query, with what it asks of their labels: `=` or `=~`, and the value."""
    found = re.findall(r"\b((?:alta|process)_\w+|up)\{([^}]*)\}", query)
    conditions = re.compile(r'(\w+)(=~|=)"([^"]*)"')
    return [(metric, {name: (how, value) for name, how, value in conditions.findall(text)}) for metric, text in found]


@pytest.mark.parametrize("query", ASKED)
def test_what_is_asked_for_is_exposed(query: str, exposed: Exposed, service: TestClient) -> None:
    named = set(re.findall(r"\b(?:alta|process)_\w+|\bup\b", re.sub(r'"[^"]*"', '""', query)))
    assert named and named == {metric for metric, _ in selectors(query)}  # each says of which job
    routes = {getattr(context, "path", "") for context in iter_route_contexts(service.app.routes)}
    for metric, conditions in selectors(query):
        assert metric in exposed, metric
        assert conditions.pop("job")[1] in ("$job", "alta")
        for label, (how, value) in conditions.items():
            assert label in exposed[metric], f"{metric} has no {label}"
            values = {"route": routes, "status": STATUSES}.get(label, exposed[metric][label])
            fits = re.compile(value).fullmatch if how == "=~" else value.__eq__
            assert any(fits(one) for one in values), f"{metric} has no {label} like {value}"
    kept = {label for words in re.findall(r"by \(([^)]*)\)", query) for label in words.split(", ")}
    labels = {label for metric in named for label in exposed[metric]} | OF_PROMETHEUS
    assert kept <= labels


def test_legends_are_labels_that_the_query_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            kept = {label for words in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in words.split(", ")}
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= (kept or OF_PROMETHEUS), panel["title"]


def test_the_dashboard_shows_every_metric_of_the_product(exposed: Exposed) -> None:
    ending = re.compile(r"_(count|sum|bucket|total|created|info)$")
    shown = {ending.sub("", metric) for query in ASKED for metric, _ in selectors(query)}
    ours = {ending.sub("", name) for name in exposed if name.startswith("alta_")}
    assert ours - shown <= set()


def test_panels_do_not_overlap_and_have_identifiers_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_is_provisioned_with_the_data_source_that_it_names() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    targets = [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert {target["uid"] for target in targets} == {source["uid"]}
    services = compose()["services"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/alta.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/alta.json"
    assert set(services["grafana"]["networks"]) & set(services["prometheus"]["networks"])


def test_prometheus_scrapes_the_service_as_it_may_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    services = compose()["services"]
    host, port = target.split(":")
    assert host in json.loads(services["alta"]["environment"]["ALTA_ALLOWED_HOSTS"])
    assert int(port) == settings_for(Path()).port and job["metrics_path"] == "/metrics"
    (secret,) = services["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert set(services["alta"]["networks"]) & set(services["prometheus"]["networks"])


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "remedy"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        for command in re.findall(r"`(alta [^`]+)`", rule["annotations"]["remedy"]):
            require_command(command, as_it_stands=True)


def promtool(*arguments: str, folder: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (of prometheus) is absent")
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    written = tmp_path / "prometheus/prometheus.yml"
    (tmp_path / "key").write_text("alta_key")
    written.write_text(written.read_text().replace("/run/secrets/metrics_key", str(tmp_path / "key")))
    promtool("check", "config", str(written), folder=tmp_path)


def test_prometheus_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [
        query.replace("$__rate_interval", "5m").replace("$job", "alta") for qs in QUERIES.values() for query in qs
    ]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(expressions)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", folder=tmp_path)


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    written = (ROOT / "tests/data/alerts_test.yml").read_text()
    (tmp_path / "alerts_test.yml").write_text(written.replace("ALERTS]", f"{DEPLOY / 'prometheus/alerts.yml'}]"))
    promtool("test", "rules", "alerts_test.yml", folder=tmp_path)
    tested = set(re.findall(r"\bAlta\w+", written))
    assert tested == {rule["alert"] for rule in RULES}
