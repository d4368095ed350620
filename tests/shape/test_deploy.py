"""Everything under deploy/ against the schemas of those who will read it, and against rules of our own.

Nothing is started here. Kubernetes objects are checked against the API's own JSON schemas, compose.yaml against the
Compose specification's, units by systemd-analyze where it is installed. The last test breaks each file in turn: what
finds nothing wrong with a broken file proves nothing.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it carries no types
import pytest
import yaml

from mainstay import __version__
from mainstay.settings import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES_VERSIONS = ("1.30", "1.37")  # the oldest that knows all we use, the newest whose schema is at hand
ENVIRONMENT = {"MAINSTAY_DATABASE": "postgresql://mainstay:FAKE@database:5432/mainstay"}
PLACES = {"/etc/mainstay", "/var/lib/mainstay", "/tmp"}  # the settings, the data, and what libraries put aside
MARGIN_S = 20  # stopping takes this much longer than the longest request
with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


# -- what the program knows --------------------------------------------------------------------------------------------


@cache
def help_of(*command: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "mainstay", *command, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    return run.stdout if run.returncode == 0 else ""


@cache
def commands() -> frozenset[str]:
    return frozenset(re.findall(r"^  ([a-z][\w-]*) ", help_of().partition("Commands:")[2], re.MULTILINE))


def call_faults(arguments: list[str]) -> Iterator[str]:
    """What is wrong with a call of ``mainstay``."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if not re.search(rf"(^|\s|,){option}\b", help_of()):
            yield f"mainstay has no option {option}"
        if rest:
            rest.pop(0)
    if not rest or rest[0] not in commands():
        yield f"mainstay has no command {' '.join(rest) or '(none)'}"
        return
    for option in rest[1:]:
        if option.startswith("--") and not re.search(rf"{option}\b", help_of(rest[0])):
            yield f"mainstay {rest[0]} has no option {option}"


def service_faults(folder: Path) -> Iterator[str]:
    """What is wrong with a sample service folder."""
    try:
        settings = load(folder, ENVIRONMENT)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault of the folder
        yield f"{folder.name}: {error}"
        return
    if settings.data != Path("/var/lib/mainstay/data"):
        yield f"{folder.name}: data is {settings.data}, where nothing may be written"
    if settings.service.listen.host != "0.0.0.0":
        yield f"{folder.name}: not to be reached from outside its container"


def deadline_s(folder: Path) -> float:
    content = yaml.safe_load((folder / "agreement.yaml").read_text(encoding="utf-8"))
    return float(content["request"]["deadline_s"])


def image_faults(image: str) -> Iterator[str]:
    name, _, tag = image.rpartition(":")
    if not name or not re.match(r"(pg)?\d", tag):
        yield f"image {image}: no tag that names a version"
    elif name.rpartition("/")[2] == "mainstay" and tag != __version__:
        yield f"image {image}: this is version {__version__}"


# -- container file ----------------------------------------------------------------------------------------------------


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, what follows it), continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def container_faults(deploy: Path) -> Iterator[str]:
    found = instructions((deploy / "Containerfile").read_text(encoding="utf-8"))
    known = "ARG FROM WORKDIR RUN COPY ENV USER VOLUME EXPOSE HEALTHCHECK ENTRYPOINT CMD".split()
    yield from (f"Containerfile: {word} is no instruction we use" for word, _ in found if word not in known)
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    stages = [n for n, (word, _) in enumerate(found) if word == "FROM"]
    for n in stages:
        base = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], ""), found[n][1].split(" ")[0])
        yield from (f"Containerfile: {fault}" for fault in image_faults(base))
    last = dict(found[stages[-1] :])
    if not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last.get("USER", "")):
        yield "Containerfile: USER is not a number other than root's"
    if "VOLUME" not in last or json.loads(last["VOLUME"]) != ["/var/lib/mainstay"]:
        yield "Containerfile: VOLUME is not the data folder"
    check = last.get("HEALTHCHECK", "").partition(" CMD ")[2] or last.get("HEALTHCHECK", "").partition("CMD ")[2]
    for word, value in (("HEALTHCHECK", check), ("ENTRYPOINT", last.get("ENTRYPOINT")), ("CMD", last.get("CMD"))):
        try:
            listed = json.loads(value or "")
        except ValueError:
            yield f"Containerfile: {word} is not a list, so a shell would run it"
            continue
        if word == "HEALTHCHECK" and listed[-1] not in ("/livez", "/readyz"):
            yield "Containerfile: HEALTHCHECK asks neither /livez nor /readyz"
        if word == "CMD":
            yield from (f"Containerfile: {fault}" for fault in call_faults(listed))
    installs = [rest for word, rest in found if word == "RUN" and " install " in rest and "pip" in rest]
    if not installs or not all("--constraint constraints.txt" in rest for rest in installs):
        yield "Containerfile: installs without the pinned versions"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in filter(None, arguments.get("EXTRAS", "").split(",")):
        if not re.search(rf"^{extra} = \[", project, re.MULTILINE):
            yield f"Containerfile: no extra {extra} in pyproject.toml"


def ignore_faults(ignore: Path, containerfile: Path) -> Iterator[str]:
    """The build sees what it copies, and nothing that is not named."""
    lines = [line for line in ignore.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    if lines[0] != "*":
        yield ".dockerignore: does not leave out what it does not name"
    for word, rest in instructions(containerfile.read_text(encoding="utf-8")):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split(" ")[:-1]:
                if f"!{source}" not in lines:
                    yield f".dockerignore: {source} is copied but left out"
                if not (ROOT / source).exists():
                    yield f"Containerfile: {source} does not exist"


# -- compose -----------------------------------------------------------------------------------------------------------


def compose_faults(deploy: Path) -> Iterator[str]:
    text = (deploy / "compose.yaml").read_text(encoding="utf-8")
    if said := compose_schema_says(text):
        yield f"compose.yaml: {said}"
        return
    content = yaml.safe_load(text)
    services: dict[str, dict[str, Any]] = content["services"]
    for name, service in services.items():
        yield from (f"compose {name}: {fault}" for fault in compose_service_faults(service, services, deploy))
    for wanted in ("api", "worker", "migrate", "database"):
        if wanted not in services:
            yield f"compose: no {wanted}"
    if "/readyz" not in services["api"].get("healthcheck", {}).get("test", []):
        yield "compose api: its health is not /readyz"
    yield from service_faults(deploy / "service")


@cache
def compose_schema_says(text: str) -> str:
    """What is wrong by the Compose specification; empty when nothing is."""
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            "--default-filetype",
            "yaml",
            "-",
        ],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return checked.stdout + checked.stderr if checked.returncode else ""


def compose_service_faults(service: dict[str, Any], services: dict[str, Any], deploy: Path) -> Iterator[str]:
    yield from image_faults(service["image"])
    if not service.get("read_only"):
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"] or "cap_add" in service or "privileged" in service:
        yield "it keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "it can gain privileges"
    if service.get("user", "0").partition(":")[0] in ("0", "root"):
        yield "it runs as root"
    if "healthcheck" not in service:
        yield "nothing says how its health is found out"
    for other, how in service.get("depends_on", {}).items():
        waits_for_health = how["condition"] == "service_healthy"
        if waits_for_health and services.get(other, {}).get("healthcheck", {"disable": True}).get("disable"):
            yield f"waits for the health of {other}, which has none"
    for volume in service.get("volumes", []):
        source = volume.get("source", "")
        if source in ("./service", "./database") and not (deploy / source).is_dir():
            yield f"mounts {source}, which does not exist"
    samples = service.get("env_file", [])
    for sample in [samples] if isinstance(samples, str) else samples:
        if "FAKE" not in (deploy / f"{sample}.sample").read_text(encoding="utf-8"):
            yield f"{sample}.sample does not show that it is fake"
    if service["image"].startswith("mainstay:"):
        yield from call_faults(service["command"])
        if service["command"] != ["migrate"]:
            grace = float(service["stop_grace_period"].removesuffix("s"))
            if grace < deadline_s(deploy / "service") + MARGIN_S:
                yield f"is killed after {grace:g} s, in the middle of an answer"


# -- Kubernetes --------------------------------------------------------------------------------------------------------


def documents(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    files = [*yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]]
    return [
        (file, document)
        for file in [*files, "secret.sample.yaml"]
        for document in yaml.safe_load_all((folder / file).read_text(encoding="utf-8"))
    ]


def kubernetes_faults(deploy: Path) -> Iterator[str]:
    folder = deploy / "kubernetes"
    yield from kustomization_faults(folder)
    objects = documents(folder)
    for file, document in objects:
        for version in KUBERNETES_VERSIONS:
            if said := kubernetes_schema_says(json.dumps(document), version):
                yield f"{file}: {document['kind']} is not valid in Kubernetes {version}: {said}"
                return
    held: dict[str, dict[str, dict[str, Any]]] = {}
    for _, document in objects:
        held.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
    for kind, wanted in (
        ("Deployment", {"mainstay-api", "mainstay-worker"}),
        ("HorizontalPodAutoscaler", {"mainstay-api", "mainstay-worker"}),
        ("PodDisruptionBudget", {"mainstay-api", "mainstay-worker"}),
        ("Job", {"mainstay-migrate"}),
        ("Service", {"mainstay-api"}),
        ("NetworkPolicy", {"mainstay", "mainstay-api"}),
    ):
        if missing := wanted - set(held.get(kind, {})):
            yield f"no {kind} {sorted(missing)}"
    deployments = held.get("Deployment", {})
    for name, deployment in [*deployments.items(), *held.get("Job", {}).items()]:
        yield from (f"{name}: {fault}" for fault in pod_faults(deployment, held, folder))
    for name, scaler in held.get("HorizontalPodAutoscaler", {}).items():
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if "replicas" in deployments.get(target, {"spec": {"replicas": 0}})["spec"]:
            yield f"autoscaler {name}: {target} is missing or sets replicas itself"
        least = scaler["spec"]["minReplicas"]
        budget = held.get("PodDisruptionBudget", {}).get(name, {"spec": {}})["spec"].get("maxUnavailable")
        if not isinstance(budget, int) or not 0 < budget < least:
            yield f"budget {name}: {budget} of {least} pods may be away"
    for kind, path in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for name, document in held.get(kind, {}).items():
            chosen = document["spec"][path]
            chosen = chosen.get("matchLabels", chosen)
            pods = [one["spec"]["template"]["metadata"]["labels"] for one in [*deployments.values()]]
            if not any(chosen.items() <= labels.items() for labels in pods):
                yield f"{kind} {name}: selects no pod"
    policy = held.get("NetworkPolicy", {}).get("mainstay", {"spec": {}})["spec"]
    if set(policy.get("policyTypes", [])) != {"Ingress", "Egress"} or "ingress" in policy:
        yield "the policy of all pods does not close both directions"
    labels = held.get("Namespace", {}).get("mainstay", {"metadata": {}})["metadata"].get("labels", {})
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the restricted profile"
    for name, secret in held.get("Secret", {}).items():
        if not all("FAKE" in value for value in secret["stringData"].values()):
            yield f"secret {name}: does not show that it is fake"
    yield from service_faults(folder / "service")


@cache
def kubernetes_schema_says(document: str, version: str) -> str:
    """What is wrong by the schema of that version, unknown fields included; empty when nothing is."""
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return str(error.message)
    return ""


def kustomization_faults(folder: Path) -> Iterator[str]:
    """No schema of kustomize is at hand: the few keys we use, and that what they name is there."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images"}
    yield from (f"kustomization: unknown key {key}" for key in content.keys() - known)
    if "secret.sample.yaml" in content["resources"]:
        yield "kustomization: the fake secret would be applied"
    named = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "secret.sample.yaml"}
    if set(content["resources"]) != named:
        yield f"kustomization: names {sorted(content['resources'])}, there are {sorted(named)}"
    for generator in content["configMapGenerator"]:
        if {*generator} != {"name", "files"} or not all((folder / file).is_file() for file in generator["files"]):
            yield "kustomization: a generator's file does not exist"
    for image in content["images"]:
        yield from (f"kustomization: {fault}" for fault in image_faults(f"{image['newName']}:{image['newTag']}"))


def pod_faults(owner: dict[str, Any], held: dict[str, Any], folder: Path) -> Iterator[str]:
    template = owner["spec"]["template"]
    pod = template["spec"]
    content = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    chosen = owner["spec"].get("selector", {}).get("matchLabels", {})
    if not chosen.items() <= template["metadata"]["labels"].items():
        yield "its selector does not choose its own pods"
    if pod.get("serviceAccountName") not in held.get("ServiceAccount", {}):
        yield "its service account does not exist"
    if pod.get("automountServiceAccountToken") is not False:
        yield "it holds a token for Kubernetes"
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "it may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        named = volume.get("configMap", {}).get("name")
        if named and named not in {generator["name"] for generator in content["configMapGenerator"]}:
            yield f"config map {named} does not exist"
        if "hostPath" in volume:
            yield "it reaches the machine's files"
    for container in pod["containers"]:
        yield from container_of_pod_faults(container, volumes, held, {image["name"] for image in content["images"]})
    if owner["kind"] == "Deployment":
        yield from running_faults(owner["metadata"]["name"], pod, folder)


def container_of_pod_faults(
    container: dict[str, Any], volumes: dict[str, Any], held: dict[str, Any], images: set[str]
) -> Iterator[str]:
    if container["image"] not in images:
        yield from image_faults(container["image"])
    yield from call_faults(container["args"])
    own = container.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written"
    if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
        yield "it keeps or can gain privileges"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= {*resources.get("requests", {})} or "memory" not in resources.get("limits", {}):
        yield "it does not say what it needs and may take"
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
    if set(mounts) != PLACES or not set(mounts.values()) <= set(volumes):
        yield f"mounts {sorted(mounts)}, not {sorted(PLACES)}"
    for source in container.get("envFrom", []):
        if source["secretRef"]["name"] not in held.get("Secret", {}):
            yield f"secret {source['secretRef']['name']} has no sample"


def running_faults(name: str, pod: dict[str, Any], folder: Path) -> Iterator[str]:
    container = pod["containers"][0]
    waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pod.get("terminationGracePeriodSeconds", 30) < waits + deadline_s(folder / "service") + MARGIN_S:
        yield "is killed in the middle of an answer"
    spread = [held["topologyKey"] for held in pod.get("topologySpreadConstraints", [])]
    if "kubernetes.io/hostname" not in spread:
        yield "all of its pods may stand on one machine"
    if name == "mainstay-api":
        for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != path or asked.get("port") not in {port["name"] for port in container["ports"]}:
                yield f"{probe} does not ask {path}"


# -- systemd -----------------------------------------------------------------------------------------------------------


def unit(text: str) -> dict[str, list[str]]:
    """Values by key of a unit, all sections together: no key stands in two."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def unit_faults(deploy: Path) -> Iterator[str]:
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "StateDirectory": "mainstay",
        "StateDirectoryMode": "0700",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
    }
    files = sorted((deploy / "systemd").iterdir())
    if [file.name for file in files] != ["mainstay-worker@.service", "mainstay.service"]:
        yield "systemd: not the two units"
    for file in files:
        held = unit(file.read_text(encoding="utf-8"))
        for key, value in wanted.items():
            if held.get(key) != [value]:
                yield f"{file.name}: {key} is not {value!r}"
        if held.get("User", ["root"]) in (["root"], ["0"]):
            yield f"{file.name}: runs as root"
        # What the parser's own guards call, see mainstay.corpus.parsing.confinement.
        if not {"user", "net"} <= set(" ".join(held.get("RestrictNamespaces", [])).split()):
            yield f"{file.name}: the parser can not leave the network"
        calls = set(" ".join(held.get("SystemCallFilter", [])).split())
        needed = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
        if calls and not {"@system-service", *needed} <= calls:
            yield f"{file.name}: the parser can not close itself in"
        if "MemoryDenyWriteExecute" in held:
            yield f"{file.name}: MemoryDenyWriteExecute may break libraries called by ctypes"
        if float(held.get("TimeoutStopSec", ["0"])[0]) < deadline_s(deploy / "service") + MARGIN_S:
            yield f"{file.name}: killed in the middle of an answer"
        program, *arguments = held["ExecStart"][0].split()
        if program != "/opt/mainstay/bin/mainstay":
            yield f"{file.name}: starts {program}"
        yield from (f"{file.name}: {fault}" for fault in call_faults(arguments))


def systemd_faults(deploy: Path, scratch: Path) -> Iterator[str]:
    """What systemd itself says of the units. The program is not installed here: one that is stands in for it."""
    scratch.mkdir()
    copies = []
    for file in sorted((deploy / "systemd").iterdir()):
        copies.append(scratch / file.name)
        text = file.read_text(encoding="utf-8")
        copies[-1].write_text(text.replace("/opt/mainstay/bin/mainstay", "/bin/true"), encoding="utf-8")
    said = analyze("verify", "--man=no", *map(str, copies))
    # It ends with 0 although it ignored a line, and speaks of the machine's own units too.
    yield from (line for line in (said.stdout + said.stderr).splitlines() if str(scratch) in line)
    if said.returncode:
        yield f"systemd-analyze verify ends with {said.returncode}"
    for copy in copies:
        if analyze("security", "--no-pager", "--offline=true", "--threshold=25", str(copy)).returncode:
            yield f"{copy.name}: more exposed than 2.5 of 10"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


# -- the tests ---------------------------------------------------------------------------------------------------------


def faults(deploy: Path) -> Iterator[str]:
    yield from container_faults(deploy)
    yield from ignore_faults(ROOT / ".dockerignore", deploy / "Containerfile")
    yield from compose_faults(deploy)
    yield from kubernetes_faults(deploy)
    yield from unit_faults(deploy)


def test_nothing_is_wrong() -> None:
    assert list(faults(DEPLOY)) == []


@with_systemd
def test_systemd_understands_each_line(tmp_path: Path) -> None:
    assert list(systemd_faults(DEPLOY, tmp_path / "units")) == []


@with_systemd
def test_systemd_would_tell_of_a_misspelt_line(tmp_path: Path) -> None:
    broken = shutil.copytree(DEPLOY, tmp_path / "deploy")
    change(broken / "systemd/mainstay.service", "LockPersonality=yes", "LockPersonalty=yes")
    assert any("LockPersonalty" in fault for fault in systemd_faults(broken, tmp_path / "units"))


def test_git_ignores_what_the_samples_become() -> None:
    ignored = (DEPLOY / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"*.env", "/documents/"} <= set(ignored)


def test_the_text_names_the_versions_of_kubernetes() -> None:
    text = (ROOT / "docs/howto/deploy.md").read_text(encoding="utf-8")
    assert all(version in text for version in KUBERNETES_VERSIONS)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_believes_a_200_alone(status: int, code: int) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert health_check(server.server_port) == code
        server.shutdown()


def test_the_health_check_fails_where_nobody_listens() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        free = server.server_port
    assert health_check(free) == 1


def health_check(port: int) -> int:
    call = [sys.executable, "-I", str(DEPLOY / "healthcheck.py"), "/livez", str(port)]
    return subprocess.run(call, timeout=30, check=False).returncode


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file.name} no longer holds {old!r}: break something else"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("Containerfile", "USER 10001:10001", "USER root", "USER is not a number"),
        ("Containerfile", "USER 10001:10001\n", "", "USER is not a number"),
        ("Containerfile", "python:3.13-slim-bookworm", "python:latest", "no tag that names a version"),
        ("Containerfile", "python:3.13-slim-bookworm", "python", "no tag that names a version"),
        ("Containerfile", 'CMD ["serve", "--host"', 'CMD ["server", "--host"', "no command server"),
        ("Containerfile", '"--port", "8080"', '"--prot", "8080"', "no option --prot"),
        ("Containerfile", 'ENTRYPOINT ["/opt/mainstay/bin/mainstay"]', "ENTRYPOINT mainstay", "a shell would run it"),
        ("Containerfile", '"/livez"', '"/health"', "neither /livez nor /readyz"),
        ("Containerfile", "--constraint constraints.txt ", "", "without the pinned versions"),
        ("Containerfile", "EXTRAS=", "EXTRAS=magic,", "no extra magic"),
        ("Containerfile", "COPY src src", "COPY src secrets src", "secrets is copied but left out"),
        ("Containerfile", "VOLUME [", "VOLUMES [", "no instruction we use"),
        ("compose.yaml", "pids_limit", "pid_limit", "compose.yaml: Schema validation errors"),
        ("compose.yaml", "restart: unless-stopped", "restart: [always]", "compose.yaml: Schema validation errors"),
        ("compose.yaml", "  read_only: true\n  cap_drop", "  cap_drop", "its root can be written"),
        ("compose.yaml", "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"),
        ("compose.yaml", "no-new-privileges:true", "label:disable", "can gain privileges"),
        ("compose.yaml", 'user: "10001:10001"', 'user: "0:0"', "runs as root"),
        ("compose.yaml", "0.8.0-pg17", "latest", "no tag that names a version"),
        ("compose.yaml", "mainstay:0", "mainstay:9", f"this is version {__version__}"),
        ("compose.yaml", '"/readyz"', '"/livez"', "its health is not /readyz"),
        ("compose.yaml", 'command: ["worker"]', 'command: ["work"]', "no command work"),
        ("compose.yaml", "stop_grace_period: 60s", "stop_grace_period: 10s", "in the middle of an answer"),
        ("compose.yaml", "database: {condition: service_healthy}", "worker: {condition: service_healthy}", "of worker"),
        ("mainstay.env.sample", "FAKE", "hunter2", "does not show that it is fake"),
        ("service/mainstay.yaml", "sources:", "source:", "unknown key 'source'"),
        ("service/mainstay.yaml", "/var/lib/mainstay/data", "data", "where nothing may be written"),
        ("service/agreement.yaml", "deadline_s: 30", "deadline_s: 300", "in the middle of an answer"),
        ("kubernetes/api.yaml", "containers:", "container:", "is not valid in Kubernetes 1.30"),
        ("kubernetes/api.yaml", "maxReplicas: 6", "maxReplicas: many", "HorizontalPodAutoscaler is not valid"),
        ("kubernetes/api.yaml", "maxReplicas", "maximumReplicas", "HorizontalPodAutoscaler is not valid"),
        ("kubernetes/api.yaml", "policy/v1", "policy/v1beta1", "PodDisruptionBudget is not valid"),
        ("kubernetes/api.yaml", "path: /readyz", "path: /livez", "readinessProbe does not ask /readyz"),
        ("kubernetes/api.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        ("kubernetes/api.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root can be written"),
        ("kubernetes/api.yaml", "drop: [ALL]", "drop: [NET_RAW]", "keeps or can gain privileges"),
        ("kubernetes/api.yaml", "RuntimeDefault", "Unconfined", "no seccomp profile"),
        ("kubernetes/api.yaml", "image: mainstay", "image: mainstay:latest", "no tag that names a version"),
        ("kubernetes/api.yaml", "name: mainstay-service", "name: mainstay-servce", "does not exist"),
        ("kubernetes/api.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30", "in the middle of an answer"),
        ("kubernetes/api.yaml", "maxUnavailable: 1", "maxUnavailable: 2", "2 of 2 pods may be away"),
        ("kubernetes/api.yaml", "  revisionHistoryLimit: 5", "  replicas: 2", "sets replicas itself"),
        ("kubernetes/api.yaml", "  selector: {app", "  selector: {component", "selects no pod"),
        ("kubernetes/worker.yaml", "mountPath: /tmp", "mountPath: /temp", "mounts"),
        ("kubernetes/worker.yaml", "kubernetes.io/hostname", "topology.kubernetes.io/zone", "one machine"),
        ("kubernetes/worker.yaml", 'args: ["worker"]', 'args: ["work"]', "no command work"),
        ("kubernetes/worker.yaml", "name: mainstay-secrets", "name: secrets", "has no sample"),
        ("kubernetes/migrate.yaml", "ServiceAccountToken: false", "ServiceAccountToken: true", "holds a token"),
        ("kubernetes/migrate.yaml", "limits:", "limit:", "Job is not valid"),
        ("kubernetes/network.yaml", "[Ingress, Egress]", "[Egress]", "does not close both directions"),
        ("kubernetes/namespace.yaml", "enforce: restricted", "enforce: baseline", "restricted profile"),
        ("kubernetes/secret.sample.yaml", "FAKE", "hunter2", "does not show that it is fake"),
        ("kubernetes/kustomization.yaml", "  - network.yaml\n", "", "kustomization: names"),
        ("kubernetes/kustomization.yaml", "newTag: 0", "newTag: v", "no tag that names a version"),
        ("kubernetes/kustomization.yaml", "namespace: mainstay", "nameSpace: mainstay", "unknown key nameSpace"),
        ("kubernetes/service/agreement.yaml", "unsupported: drop", "unsupported: keep", "service: "),
        ("systemd/mainstay.service", "User=mainstay", "User=root", "runs as root"),
        ("systemd/mainstay.service", "RestrictNamespaces=user net", "RestrictNamespaces=yes", "leave the network"),
        ("systemd/mainstay.service", " landlock_add_rule", "", "close itself in"),
        ("systemd/mainstay.service", "ProtectSystem=strict", "ProtectSystem=full", "ProtectSystem is not"),
        ("systemd/mainstay.service", "TimeoutStopSec=60", "TimeoutStopSec=5", "in the middle of an answer"),
        ("systemd/mainstay.service", " --folder ", " --dir ", "no option --dir"),
        ("systemd/mainstay-worker@.service", " worker\n", " work\n", "no command work"),
    ],
)
def test_a_broken_file_is_found_out(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    broken = shutil.copytree(DEPLOY, tmp_path / "deploy")
    change(broken / file, old, new)
    checks = {
        "Containerfile": lambda: [
            *container_faults(broken),
            *ignore_faults(ROOT / ".dockerignore", broken / "Containerfile"),
        ],
        "kubernetes": lambda: [*kubernetes_faults(broken)],
        "systemd": lambda: [*unit_faults(broken)],
    }
    found = checks.get(file.split("/")[0], lambda: [*compose_faults(broken)])()
    assert any(said in fault for fault in found), found
