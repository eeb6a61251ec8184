"""deploy/kubernetes beyond the schemas of `make check`: what names another thing fits it, in every resource."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.doctor.time_zone import is_zone
from service.settings import Settings
from tests.deployed import DEPLOY, ROOT, manifests, settings_of
from tests.documented import require_command
from tests.fakes import FakeEncoder
from tests.service_samples import settings_for

FOLDERS = ("base", "components/dicom", "components/monitoring")
RESOURCES = list(manifests(*FOLDERS))
POD_IP = "10.244.1.7"


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    return {resource["metadata"]["name"]: resource for resource in RESOURCES if resource["kind"] in kinds}


PODS = {name: resource["spec"]["template"] for name, resource in of_kind("Deployment", "Job").items()}
(SECRET,) = manifests(".")


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["spec"]["containers"]
    return only


def environment(name: str) -> dict[str, str]:
    """What the kubelet sets, `$(NAME)` put in."""
    found: dict[str, str] = {}
    for source in container(name)["envFrom"]:
        if "configMapRef" in source:
            found |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            assert source["secretRef"]["name"] == SECRET["metadata"]["name"]
            found |= SECRET["stringData"]
    for entry in container(name).get("env", ()):
        text = entry.get("value", POD_IP)
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], text)
    return found


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def pods_of(selector: dict[str, str]) -> list[str]:
    return [name for name, pod in PODS.items() if selects(selector, pod["metadata"]["labels"])]


def test_every_resource_of_the_base_and_the_components_is_listed() -> None:
    for folder in FOLDERS:
        path = DEPLOY / "kubernetes" / folder
        listed = yaml.safe_load((path / "kustomization.yaml").read_text())["resources"]
        assert sorted([*listed, "kustomization.yaml"]) == sorted(file.name for file in path.iterdir())


@pytest.mark.parametrize("name", sorted(PODS))
def test_the_product_takes_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of({"ALTA_HOST": "0.0.0.0", **environment(name)}, monkeypatch)
    assert settings.catalog_url.startswith("postgresql") and settings.authentication_required
    mounted = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert name == "alta-migrate" or str(settings.data_dir) in mounted


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_time_zone_has_to_be_named(name: str) -> None:
    zone = environment(name)["TZ"]
    assert not is_zone(zone)  # `alta doctor` fails until it is replaced


@pytest.mark.parametrize("name", sorted(PODS))
def test_kubernetes_sets_no_setting_by_itself(name: str) -> None:
    """Of a Service `alta` it would set ALTA_PORT, to an address."""
    assert PODS[name]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", sorted(PODS))
def test_its_command_exists(name: str) -> None:
    require_command(shlex.join(["alta", *container(name)["args"]]), as_it_stands=True)
    assert "command" not in container(name)  # the image's


@pytest.mark.parametrize("name", sorted(PODS))
def test_containers_are_restricted(name: str) -> None:
    """As the namespace's Pod Security Standard `restricted` demands, and read-only beside."""
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"/tmp"} <= {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert "memory" in container(name)["resources"]["limits"]
    assert set(of_kind("Namespace")["alta"]["metadata"]["labels"].values()) == {"restricted"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_volumes_are_declared_and_claimed(name: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == set(volumes)
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            claim = of_kind("PersistentVolumeClaim")[volume["persistentVolumeClaim"]["claimName"]]
            assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_probes_are_routes_that_anybody_may_ask(tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path), encoder=FakeEncoder())
    routes = {getattr(context, "path", "") for context in iter_route_contexts(app.routes)}
    probes = {kind: container("alta")[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in probes.values()} == {"/livez", "/readyz"} <= routes
    assert probes["readiness"]["path"] == "/readyz" and probes["liveness"]["path"] == "/livez"
    assert container("alta")["readinessProbe"]["timeoutSeconds"] > 10  # /readyz waits so long for its trial


def test_probes_prometheus_and_the_ingress_use_host_names_that_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(environment("alta"), monkeypatch)
    (rule,) = of_kind("Ingress")["alta"]["spec"]["rules"]
    assert set(settings.host_names) == {rule["host"], POD_IP}
    (tls,) = of_kind("Ingress")["alta"]["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]


def ports_of(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name).get("ports", ())}


def test_ports_are_those_that_the_product_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ports_of("alta") == {"http": settings_of(environment("alta"), monkeypatch).port}
    arguments = container("alta-receive")["args"]
    assert ports_of("alta-receive") == {"dicom": int(arguments[arguments.index("--port") + 1])}


def test_services_reach_one_kind_of_pod_each() -> None:
    services = of_kind("Service")
    assert {name: pods_of(service["spec"]["selector"]) for name, service in services.items()} == {
        "alta": ["alta"],
        "alta-receive": ["alta-receive"],
    }
    for name, service in services.items():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports_of(name))
    for name, deployment in of_kind("Deployment").items():
        assert pods_of(deployment["spec"]["selector"]["matchLabels"]) == [name]
    budget = of_kind("PodDisruptionBudget")["alta"]["spec"]
    assert pods_of(budget["selector"]["matchLabels"]) == ["alta"]
    assert budget["minAvailable"] < of_kind("Deployment")["alta"]["spec"]["replicas"]


def test_the_ingress_leads_to_the_service() -> None:
    (path,) = of_kind("Ingress")["alta"]["spec"]["rules"][0]["http"]["paths"]
    backend = path["backend"]["service"]
    service = of_kind("Service")[backend["name"]]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_ingress_lets_through_what_the_service_takes() -> None:
    annotations, settings = of_kind("Ingress")["alta"]["metadata"]["annotations"], Settings()
    assert int(annotations["nginx.org/client-max-body-size"].rstrip("m")) > settings.stow_max_mb
    assert int(annotations["nginx.org/proxy-read-timeout"].rstrip("s")) > settings.request_timeout_s
    for line in annotations["nginx.org/location-snippets"].splitlines():
        assert line.strip() in (DEPLOY / "nginx/nginx.conf").read_text()  # as the other proxy


def test_what_prometheus_scrapes_is_the_service() -> None:
    monitor = of_kind("ServiceMonitor")["alta"]["spec"]
    services = [
        service
        for service in of_kind("Service").values()
        if selects(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    ]
    assert [service["metadata"]["name"] for service in services] == ["alta"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}
    # The operator names the job after the Service: the rules and the dashboard ask for that name.
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in scraped] == ["alta"]
    assert endpoint["path"] == scraped[0]["metrics_path"]


def test_nothing_is_let_in_but_to_ports_that_are_named() -> None:
    policies = of_kind("NetworkPolicy")
    everything = policies.pop("alta-nothing")["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    let_in = {}
    for policy in policies.values():
        chosen = pods_of(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"].get("ingress", ()):
            assert rule["from"] and rule["ports"]
            (name,) = chosen
            let_in[name] = {port["port"] for port in rule["ports"]}
    assert let_in == {name: set(ports_of(name)) for name in ("alta", "alta-receive")}
    assert pods_of(policies["alta-names-and-database"]["spec"]["podSelector"]["matchLabels"]) == list(PODS)


def test_the_rule_for_the_pacs_that_is_to_be_begun_with_is_one_of_the_worker() -> None:
    """Commented out: without results sent back or a PACS that is pulled from nothing has to go there."""
    text = (DEPLOY / "kubernetes/base/network.yaml").read_text()
    commented = re.sub(r"^# ?", "", text[text.index("# ---") :], flags=re.M).replace("Results sent", "# Results sent")
    rule = yaml.safe_load(commented)
    assert pods_of(rule["spec"]["podSelector"]["matchLabels"]) == ["alta-worker"]
    assert rule["spec"]["policyTypes"] == ["Egress"] and rule["spec"]["egress"][0]["to"]


def test_pods_have_the_time_to_end_that_the_product_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(environment("alta"), monkeypatch)
    assert settings.drain_s > 0  # until proxies have heard of it
    assert PODS["alta"]["spec"]["terminationGracePeriodSeconds"] >= settings.drain_s + settings.shutdown_timeout_s + 5


def test_overlays_name_one_image_of_this_version_for_all() -> None:
    assert {container(name)["image"] for name in PODS} == {"alta"}  # what they put another name for
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for overlay, variant in (("cpu", "cpu"), ("gpu", "cuda")):
        written = yaml.safe_load((DEPLOY / "kubernetes/overlays" / overlay / "kustomization.yaml").read_text())
        (image,) = written["images"]
        assert (image["name"], image["newTag"]) == ("alta", f"{version}-{variant}")
        assert (ROOT / "requirements" / f"{variant}.lock").is_file()
    named = re.findall(r"alta:(\d[\w.]*)-", (ROOT / "docs/operations.md").read_text())
    assert set(named) == {version}


def rendered(overlay: Path) -> Iterator[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is absent")
    made = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    if "unknown command" in made.stderr:
        pytest.skip("this kubectl has no kustomize")
    assert made.returncode == 0, made.stderr
    yield from yaml.safe_load_all(made.stdout)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay_is_the_base_with_one_image_everywhere(overlay: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the extra `check` is absent").validate
    resources = list(rendered(DEPLOY / "kubernetes/overlays" / overlay))
    assert len(resources) == len(list(manifests("base")))
    images, gpus = set(), set()
    for resource in resources:
        validate(resource, "1.31", strict=True)
        pod = resource["spec"]["template"]["spec"] if resource["kind"] in ("Deployment", "Job") else {}
        for one in pod.get("containers", ()):
            images.add(one["image"])
            gpus |= {resource["metadata"]["name"]} if "nvidia.com/gpu" in one["resources"]["limits"] else set()
    assert len(images) == 1 and images.pop().endswith({"cpu": "-cpu", "gpu": "-cuda"}[overlay])
    assert gpus == ({"alta", "alta-worker"} if overlay == "gpu" else set())
    (settings,) = [resource["data"] for resource in resources if resource["kind"] == "ConfigMap"]
    assert settings.get("ALTA_DEVICE") == ("cuda" if overlay == "gpu" else None)


def test_components_may_be_added(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes/overlays/cpu"
    written = (overlay / "kustomization.yaml").read_text()
    asked_for = re.sub(r"^# ((?:components:|  - ).*)$", r"\1", written, flags=re.M)
    assert asked_for != written
    (overlay / "kustomization.yaml").write_text(asked_for)
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in rendered(overlay)}
    assert {("Deployment", "alta-receive"), ("ServiceMonitor", "alta")} <= names


def test_the_secret_is_an_example_and_no_resource() -> None:
    assert "CHANGE-ME" in SECRET["stringData"].values()
    assert "secret" not in json.dumps(yaml.safe_load((DEPLOY / "kubernetes/base/kustomization.yaml").read_text()))
