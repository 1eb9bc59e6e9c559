"""What `deploy/` holds does what it says: the image without Docker, the manifests without a cluster.

The image's steps are run as they stand in the Dockerfile (tests/image.py). What only an engine can tell is not told
here: the base image, its layers, the user's number.
"""

from __future__ import annotations

import asyncio
import configparser
import copy
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose
from kubernetes_validate.utils import ValidationError, all_versions, validate

from proxy.cli import EXIT_UNUSABLE
from proxy.settings import load_settings
from tests.image import (
    DOCKER,
    ROOT,
    STARTED_WITHIN_S,
    Image,
    Instruction,
    Started,
    build,
    free_port,
    instructions,
    is_in_context,
    only,
    started,
)

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping

    from tests.conftest import Proxied

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
UNIT: Final = ROOT / "deploy" / "systemd" / "defender-sidecar.service"
MODES: Final = {"base": "reject", "overlays/observe": "observe", "overlays/reject": "reject"}
OVERLAYS: Final = tuple(MODES)

NATIVE_SIDECARS_SINCE: Final = (1, 29)

# Installing what the image holds takes as long as the package index does.
pytestmark = pytest.mark.timeout(600)


# --- The image ---


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("docker"))


SETTLED: Final = {"DEFENDER_SIDECAR_LISTEN": "127.0.0.1:0", "DEFENDER_SIDECAR_DRAIN__DELAY_S": "0"}
"""What a test changes about the image's own settings: nobody else on this machine may have these ports."""


def started_image(image: Image, admin_port: int, **variables: str) -> contextlib.AbstractAsyncContextManager[Started]:
    command = [*Instruction("", only("ENTRYPOINT")).words(), *Instruction("", only("CMD")).words()]
    settled = SETTLED | {"DEFENDER_SIDECAR_ADMIN": f"127.0.0.1:{admin_port}"}
    return started(image.process(command, settled | variables))


def health_command(admin_port: int) -> list[str]:
    """Return the health check's command, asking another port."""
    words = Instruction("", only("HEALTHCHECK").partition(" CMD ")[2]).words()
    assert sum(word.count("9464") for word in words) == 1
    return [word.replace("9464", str(admin_port)) for word in words]


async def health(image: Image, admin_port: int) -> int:
    async with started(image.process(health_command(admin_port))) as check:
        return await check.ended()


def test_the_image_holds_what_runs_and_nothing_that_installs(image: Image) -> None:
    binaries = {path.name for path in image.at("/opt/defender-sidecar/bin").iterdir()}
    assert "defender-sidecar" in binaries
    assert not [name for name in binaries if name.startswith(("pip", "hatch"))]
    assert not image.at("/src").exists()
    assert not image.at("/opt/build").exists()


def test_an_image_exports_spans_if_it_is_built_to(image: Image, tmp_path: Path) -> None:
    assert not list(image.root.rglob("opentelemetry"))
    tracing = build(tmp_path, REQUIREMENTS="requirements-otel.txt")
    assert (
        tracing.output(["python", "-c", "import proxy.tracing; print(proxy.tracing.Tracing.__name__)"]) == "Tracing\n"
    )


def test_every_package_is_held_against_its_hash() -> None:
    installs = [line for step in instructions() if step.name == "RUN" for line in step.text.split("&&")]
    installs = [line for line in installs if re.search(r"\b(?:install|wheel)\b", line)]
    assert len(installs) == 4
    for line in installs:
        assert ("--require-hashes" in line) != ("--no-deps" in line), line


def test_its_bytecode_is_never_held_against_the_source(image: Image) -> None:
    compiled = list(image.at("/opt/defender-sidecar").rglob("proxy/**/*.pyc"))
    assert {path.name.split(".")[0] for path in compiled} >= {"cli", "exchange", "server"}
    # PEP 552: bit 0 for a hash, bit 1 for one that is checked.
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}


def test_the_image_listens_where_it_exposes(image: Image) -> None:
    shown = image.output(["defender-sidecar", "config", "show"])
    found = dict(re.findall(r"^(listen|admin) +(\S+) ", shown, flags=re.MULTILINE))
    assert found == {"listen": "0.0.0.0:8080", "admin": "0.0.0.0:9464"}
    assert only("EXPOSE").split() == [address.rpartition(":")[2] for address in found.values()]


def test_the_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER"))
    names = [step.name for step in instructions()]
    assert "RUN" not in names[names.index("USER") :]


def test_the_context_is_no_more_than_what_is_copied() -> None:
    sources = [
        source
        for step in instructions()
        if step.name == "COPY" and not step.text.startswith("--from")
        for source in step.text.split()[:-1]
    ]
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(let_in) == sorted(sources)
    assert not is_in_context(".venv/bin/python")
    assert not is_in_context("proxy/core/__pycache__/model.pyc")
    assert not is_in_context("deploy/docker/compose.yaml")


def test_where_the_image_is_tried_nothing_can_be_written(image: Image) -> None:
    """What the tests below take for granted."""
    place = image.at("/opt/defender-sidecar") / "written"
    command = image.process(["sh", "-c", f"echo something >{place}"])
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not place.exists() or place.stat().st_size == 0
    place.unlink(missing_ok=True)


async def test_the_health_check_follows_readiness(image: Image) -> None:
    port = free_port()
    assert await health(image, port) == 1, "nobody answers"
    async with started_image(image, port, DEFENDER_SIDECAR_DRAIN__DELAY_S="600") as sidecar:
        await sidecar.line('"serving"')
        assert await health(image, port) == 0
        sidecar.process.send_signal(signal.SIGTERM)
        await sidecar.line('"draining"')
        assert await health(image, port) == 1


async def test_sigterm_reaches_the_process_and_ends_it_well(image: Image) -> None:
    files = image.files()
    async with started_image(image, free_port()) as sidecar:
        await sidecar.line('"serving"')
        sidecar.process.send_signal(signal.SIGTERM)
        assert await sidecar.ended() == 0, sidecar.lines
    assert image.files() == files


# --- Compose ---


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return document


def own_services() -> dict[str, dict[str, Any]]:
    return {name: found for name, found in compose()["services"].items() if found["image"] == "defender-sidecar"}


def test_compose_is_what_the_specification_knows() -> None:
    document = compose()
    PyCompose.from_json(json.dumps(document)).validate()
    document["services"]["sidecar"]["read_onyl"] = document["services"]["sidecar"].pop("read_only")
    with pytest.raises(ValueError, match="read_onyl"):
        PyCompose.from_json(json.dumps(document))


def test_what_compose_mounts_is_there() -> None:
    mounts = [volume.split(":") for found in compose()["services"].values() for volume in found.get("volumes", [])]
    assert len(mounts) == 4
    for source, target, options in mounts:
        assert (DOCKER / source).exists(), source
        assert target.startswith("/")
        assert options == "ro"


def test_compose_publishes_on_loopback_alone_and_the_ports_that_are_listened_on(image: Image) -> None:
    published = {name: found.get("ports", []) for name, found in compose()["services"].items()}
    for ports in published.values():
        assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)
    shown = image.output(["defender-sidecar", "config", "show"])
    listened = re.findall(r"^(?:listen|admin) +\S+:(\d+) ", shown, flags=re.MULTILINE)
    assert [port.rpartition(":")[2] for port in published["sidecar"]] == listened


def test_compose_names_services_that_it_has_at_their_ports() -> None:
    texts = [DOCKER / "compose.yaml", ROOT / "deploy" / "prometheus" / "prometheus.yml"]
    texts += sorted((ROOT / "deploy" / "grafana" / "provisioning" / "datasources").iterdir())
    services = "|".join(compose()["services"])
    named = {
        found
        for text in texts
        for found in re.findall(rf"""(?:://|['"])({services}):(\d+)""", text.read_text(encoding="utf-8"))
    }
    assert named == {("sidecar", "8080"), ("sidecar", "9464"), ("simulator", "8081"), ("prometheus", "9090")}


def test_compose_mounts_the_dashboards_where_grafana_looks() -> None:
    grafana = compose()["services"]["grafana"]
    mounts = {target: DOCKER / source for source, target, _ in (volume.split(":") for volume in grafana["volumes"])}
    (provisioning,) = (mounts["/etc/grafana/provisioning"] / "dashboards").iterdir()
    (provider,) = yaml.safe_load(provisioning.read_text(encoding="utf-8"))["providers"]
    folder, _, name = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].rpartition("/")
    assert provider["options"]["path"] == folder
    assert (mounts[folder] / name).is_file()


def test_compose_gives_the_drain_its_time(image: Image) -> None:
    shown = image.output(["defender-sidecar", "config", "show"])
    drain_s = sum(float(value) for value in re.findall(r"^drain\.\S+ +(\S+)", shown, flags=re.MULTILINE))
    assert seconds(own_services()["sidecar"]["stop_grace_period"]) > drain_s


async def test_the_composition_makes_what_the_dashboard_shows(image: Image) -> None:
    """Simulator, sidecar and traffic, by compose's own commands, but for the names that its network resolves."""
    services = own_services()
    simulator_port, listen_port, admin_port = free_port(), free_port(), free_port()
    assert services["simulator"]["command"][-1] == "0.0.0.0:8081"
    entrypoint = Instruction("", only("ENTRYPOINT")).words()
    simulate = [*entrypoint, *services["simulator"]["command"][:-1], f"127.0.0.1:{simulator_port}"]
    variables = dict(services["sidecar"]["environment"])
    upstream = urlsplit(variables["DEFENDER_SIDECAR_UPSTREAM__URL"])
    assert (upstream.hostname, upstream.port) == ("simulator", 8081)
    variables["DEFENDER_SIDECAR_UPSTREAM__URL"] = f"http://127.0.0.1:{simulator_port}"
    variables["DEFENDER_SIDECAR_LISTEN"] = f"127.0.0.1:{listen_port}"
    (script,) = (volume.split(":") for volume in services["traffic"]["volumes"])
    python, path = services["traffic"]["entrypoint"]
    assert path == script[1]
    assert services["traffic"]["command"] == ["http://sidecar:8080"]
    traffic = [python, str(DOCKER / script[0]), f"http://127.0.0.1:{listen_port}", "--rounds", "1", "--rate", "1000"]
    async with started(image.process(simulate)) as simulator, started_image(image, admin_port, **variables) as sidecar:
        await simulator.line("the simulator is at")
        await sidecar.line('"serving"')
        async with started(image.process(traffic)) as calls:
            reading = asyncio.create_task(read_on(sidecar))
            assert await calls.ended() == 0
            assert calls.lines == []
        metrics = await asyncio.to_thread(fetched, admin_port, "/metrics")
        simulator.process.send_signal(getattr(signal, services["simulator"]["stop_signal"]))
        assert await simulator.ended() == 0
        sidecar.process.send_signal(signal.SIGTERM)
        await reading
    codes = set(re.findall(r'^defender_proxy_errors_total\{code="(\w+)",.*\} [1-9]', metrics, flags=re.MULTILINE))
    assert codes >= {
        "MissingRequiredParameter",
        "InvalidRequestBody",
        "TooManyRequests",
        "Forbidden",
        "Unauthorized",
        "NotFound",
        "ActiveRequestAlreadyExists",
        "InternalServerError",
        "BadGateway",
    }
    assert re.search(r"^defender_proxy_case_mismatches_total\{.*\} [1-9]", metrics, flags=re.MULTILINE)
    assert re.search(r"^defender_proxy_throttled_total\{.*\} [1-9]", metrics, flags=re.MULTILINE)
    assert re.search(r"^defender_proxy_upstream_failures_total\{.*\} [1-9]", metrics, flags=re.MULTILINE)


async def read_on(running: Started) -> None:
    """Take what is written, lest the pipe fill up."""
    assert running.process.stdout is not None
    while await running.process.stdout.read(65536):
        pass


def fetched(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTED_WITHIN_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


# --- Kubernetes ---


def kustomize() -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    if found := shutil.which("kustomize", path=path):
        return [found, "build"]
    if found := shutil.which("kubectl", path=path):
        return [found, "kustomize"]
    pytest.skip("neither kustomize nor kubectl is on PATH, and there is no wheel of the latter for this machine")


BUILT: Final[dict[str, list[dict[str, Any]]]] = {}


def built(overlay: str) -> list[dict[str, Any]]:
    """Return the resources that kustomize makes of a folder."""
    if overlay not in BUILT:
        done = subprocess.run(
            [*kustomize(), str(KUBERNETES / overlay)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "a warning"
        BUILT[overlay] = list(yaml.safe_load_all(done.stdout))
    return copy.deepcopy(BUILT[overlay])


def resource(overlay: str, kind: str) -> dict[str, Any]:
    (found,) = [found for found in built(overlay) if found["kind"] == kind]
    return found


def pod(overlay: str) -> dict[str, Any]:
    spec: dict[str, Any] = resource(overlay, "Deployment")["spec"]["template"]["spec"]
    return spec


def sidecar(overlay: str) -> dict[str, Any]:
    (found,) = pod(overlay)["initContainers"]
    assert isinstance(found, dict)
    return found


def client(overlay: str) -> dict[str, Any]:
    (found,) = pod(overlay)["containers"]
    assert isinstance(found, dict)
    return found


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}


def mounted(overlay: str, path: str, container: Mapping[str, Any]) -> str:
    """Return the content of the file that a container finds at `path`."""
    folder, _, name = path.rpartition("/")
    (volume,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == folder]
    (source,) = [found["configMap"]["name"] for found in pod(overlay)["volumes"] if found["name"] == volume]
    (data,) = [found["data"] for found in built(overlay) if found["metadata"]["name"] == source]
    assert isinstance(data, dict)
    return str(data[name])


def settings_file(overlay: str, folder: Path) -> Path:
    (path,) = [word for word in sidecar(overlay)["args"] if word.startswith("/")]
    file = folder / "proxy.yaml"
    file.write_text(mounted(overlay, path, sidecar(overlay)), encoding="utf-8")
    return file


def versions() -> list[str]:
    known = {tuple(map(int, version.split(".")[:2])) for version in all_versions()}
    return [f"{major}.{minor}" for major, minor in sorted(known) if (major, minor) >= NATIVE_SIDECARS_SINCE]


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(overlay: str, version: str) -> None:
    kinds = set()
    for found in built(overlay):
        if found["kind"] != "PodMonitor":
            assert validate(found, version, strict=True) == version
            kinds.add(found["kind"])
    assert kinds == {"ConfigMap", "Deployment", "NetworkPolicy"}


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    deployment = resource("base", "Deployment")
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolicy "] = "Always"
    with pytest.raises(ValidationError):
        validate(deployment, versions()[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_sidecar_is_a_native_one_and_takes_these_settings(overlay: str, image: Image, tmp_path: Path) -> None:
    container = sidecar(overlay)
    assert container["restartPolicy"] == "Always"
    assert container["args"][0] == "run"
    file = settings_file(overlay, tmp_path)
    flags = [str(file) if word.startswith("/") else word for word in container["args"][1:]]
    command = [*Instruction("", only("ENTRYPOINT")).words(), "config", "show", *flags]
    assert "drain.delay_s" in image.output(command)
    settings = load_settings(file, variables(container), {}).settings
    assert settings.check.mode.value == MODES[overlay]
    assert settings.listen.host == "127.0.0.1"
    assert variables(client(overlay))["DEFENDER_BASE_URL"] == f"http://127.0.0.1:{settings.listen.port}"
    assert [port["containerPort"] for port in container["ports"]] == [settings.admin.port]
    assert settings.admin.host == "0.0.0.0"  # noqa: S104 - probes come from outside the pod
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container[probe]["httpGet"] == {"path": path, "port": container["ports"][0]["name"]}
    # Some of it is the client's own.
    assert pod(overlay)["terminationGracePeriodSeconds"] > 2 * (settings.drain.delay_s + settings.drain.timeout_s)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_has_no_right_that_it_does_not_need(overlay: str) -> None:
    spec = pod(overlay)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    user, group = map(int, only("USER").split(":"))
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in (sidecar(overlay), client(overlay)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}
        assert all(mount["readOnly"] for mount in container["volumeMounts"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_policy_is_this_pods_and_lets_through_names_https_and_scrapes(overlay: str, tmp_path: Path) -> None:
    spec = resource(overlay, "NetworkPolicy")["spec"]
    assert spec["podSelector"]["matchLabels"] == resource(overlay, "Deployment")["spec"]["selector"]["matchLabels"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = spec["ingress"]
    admin_port = load_settings(settings_file(overlay, tmp_path), {}, {}).settings.admin.port
    assert ingress["ports"] == [{"protocol": "TCP", "port": admin_port}]
    names, https = spec["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert {port["protocol"] for port in names["ports"]} == {"TCP", "UDP"}
    # A common label that kustomize put here would match no name server.
    assert names["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert https["ports"] == [{"protocol": "TCP", "port": 443}]
    assert all(set(peer) == {"ipBlock"} for peer in https["to"])


@pytest.mark.parametrize("overlay", [overlay for overlay in OVERLAYS if overlay != "base"])
def test_prometheus_finds_the_sidecar(overlay: str) -> None:
    """Held against the Prometheus operator's API reference (PodMonitor, PodMetricsEndpoint), for want of a schema."""
    monitor = resource(overlay, "PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    # The operator names the job after the resource, and the rules look for this name within.
    assert monitor["metadata"]["name"] == "defender-sidecar"
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    labels = resource(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert set(endpoint) <= {"port", "path", "interval", "scrapeTimeout"}
    assert [port["name"] for port in sidecar(overlay)["ports"]] == [endpoint["port"]]
    assert endpoint["path"] == "/metrics"
    assert seconds(endpoint["scrapeTimeout"]) <= seconds(endpoint["interval"])


def test_the_readmes_kustomization_names_the_image(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"^cat >kustomization\.yaml <<END\n(.*?)^END$", readme, flags=re.DOTALL | re.MULTILINE)
    shutil.copytree(KUBERNETES, tmp_path / KUBERNETES.relative_to(ROOT))
    (tmp_path / "kustomization.yaml").write_text(content, encoding="utf-8")
    done = subprocess.run([*kustomize(), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (deployment,) = [found for found in yaml.safe_load_all(done.stdout) if found["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    images = {container["image"] for container in (*spec["initContainers"], *spec["containers"])}
    assert images == {"registry.example/defender-sidecar:0.1.0"}


def test_the_base_applies_where_there_is_no_prometheus_operator() -> None:
    assert "PodMonitor" not in {found["kind"] for found in built("base")}


async def test_the_example_client_calls_the_sidecar_and_ends_when_told(proxied: Proxied, tmp_path: Path) -> None:
    container = client("base")
    python, *options, path = container["command"]
    assert python == "python"
    script = tmp_path / "client.py"
    script.write_text(mounted("base", path, container), encoding="utf-8")
    command = ["env", "-i", f"DEFENDER_BASE_URL={proxied.url}", sys.executable, *options, str(script)]
    async with started(command) as process:
        assert await process.line("200") == "200\n"
        process.process.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


# --- systemd ---


def seconds(text: str) -> float:
    assert text.endswith("s"), text
    return float(text[:-1])


def service() -> Mapping[str, str]:
    """Return the unit's last value of each key of [Service]."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not on PATH")
    return found


@pytest.fixture
def unit(image: Image, tmp_path: Path) -> Path:
    """The unit, starting the program where the image has it here."""
    file = tmp_path / UNIT.name
    file.write_text(image.placed(UNIT.read_text(encoding="utf-8")), encoding="utf-8")
    return file


def test_systemd_takes_the_unit(unit: Path) -> None:
    done = subprocess.run([systemd_analyze(), "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_the_unit_hardened(unit: Path) -> None:
    # An exposure of 2.0 of 10; a service is at 9.6 where nothing is said.
    command = [systemd_analyze(), "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_agrees_with_the_program(image: Image) -> None:
    found = service()
    program, command, *flags = shlex.split(found["ExecStart"])
    assert command == "run"
    assert flags == ["--config", "/etc/defender-sidecar/proxy.yaml"]
    assert image.output([program, "config", "show", *flags])
    settings = load_settings(ROOT / "config" / "proxy.yaml", {}, {}).settings
    assert seconds(found["TimeoutStopSec"]) > settings.drain.delay_s + settings.drain.timeout_s
    assert int(found["LimitNOFILE"]) > settings.downstream.max_connections + settings.upstream.max_connections
    assert int(found["RestartPreventExitStatus"]) == EXIT_UNUSABLE
    assert found["ExecReload"].endswith("-HUP $MAINPID")
    assert found["KillMode"] == "mixed"
