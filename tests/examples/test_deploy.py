"""The files in `examples/deploy/`: their programs accept them, and they agree with each other and with Fairway."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
import yaml
from tests.docs.pages import ROOT, split
from tests.suites.tools import debian

from fairway.layers.redis import RedisChannelLayer
from fairway.server import cli
from fairway.server.limits import Limits, variable_name
from fairway.server.proxy import trusted_networks

DEPLOY = ROOT / "examples" / "deploy"
SOCKET = "/run/mysite.socket"
APPLICATION = "tests.suites.applications:application"


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text(name).replace("\\\n", ""))
    return parser


def run(*command: str | Path, **environment: str) -> str:
    """What a program says that has to succeed."""
    done = subprocess.run(
        [str(one) for one in command], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what certbot leaves."""
    folder = tmp_path_factory.mktemp("live")
    issued = trustme.CA().issue_cert("example.com")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(folder / "fullchain.pem"), append=True)
    issued.private_key_pem.write_to_path(str(folder / "privkey.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return folder


# Accepted by the programs that read them -----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["behind a proxy", "with TLS"])
def test_systemd_accepts_the_units(variant: str, tmp_path: Path) -> None:
    folder = "tls/" if variant == "with TLS" else ""
    executable = {"/srv/mysite/venv/bin/fairway": sys.executable}
    for name, target in {
        "mysite.service": "mysite.service",
        f"{folder}mysite.socket": "mysite.socket",
        **({"tls/tls.conf": "mysite.service.d/tls.conf"} if folder else {}),
    }.items():
        (tmp_path / target).parent.mkdir(exist_ok=True)
        content = text(name)
        for given, ours in executable.items():
            content = content.replace(given, ours)
        (tmp_path / target).write_text(content)
    analyze = debian("systemd-analyze", "systemd")

    said = run(analyze, "verify", "--man=no", tmp_path / "mysite.service", SYSTEMD_UNIT_PATH=f"{tmp_path}:")

    assert [line for line in said.splitlines() if "mysite" in line] == []


def test_systemd_calls_the_unit_safe(tmp_path: Path) -> None:
    analyze = debian("systemd-analyze", "systemd")

    said = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=25", DEPLOY / "mysite.service")

    assert "OK" in said.splitlines()[-1]


def test_nginx_accepts_its_site(certificate: Path, tmp_path: Path) -> None:
    site = text("nginx.conf").replace("/etc/letsencrypt/live/example.com", str(certificate))
    # nginx opens the sockets that it is to listen at, even to test a configuration.
    site = re.sub(r"(?m)^ *listen \[::\].*\n", "", site)
    site = re.sub(r"listen (80|443)", lambda found: f"listen unix:{tmp_path}/{found[1]}", site)
    configuration = tmp_path / "nginx.conf"
    paths = "".join(
        f"{one}_temp_path {tmp_path}/{one};\n" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration.write_text(
        "worker_rlimit_nofile 65536;\nworker_shutdown_timeout 1h;\n"
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{ worker_connections 32768; }}\n"
        f"http {{ access_log off;\n{paths}{site} }}\n"
    )

    assert "test is successful" in run(debian("nginx"), "-t", "-p", tmp_path, "-c", configuration)


def test_caddy_accepts_its_file(tmp_path: Path) -> None:
    said = run(
        debian("caddy"), "validate", "--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile",
        HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path),
    )  # fmt: skip

    assert "Valid configuration" in said
    assert "not formatted" not in said


def test_haproxy_accepts_its_configuration(certificate: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(text("haproxy.cfg").replace("/etc/ssl/example.com.pem", str(certificate / "both.pem")))

    run(debian("haproxy"), "-c", "-q", "-f", configuration)


@pytest.mark.parametrize("name", ["mysite-manage", "tls/renewed"])
def test_the_shell_accepts_the_scripts(name: str) -> None:
    run("sh", "-n", DEPLOY / name)
    assert os.access(DEPLOY / name, os.X_OK)


def test_the_hook_of_certbot_leaves_both_files(certificate: Path, tmp_path: Path) -> None:
    script = tmp_path / "renewed"
    target = tmp_path / "tls"
    script.write_text(text("tls/renewed").replace("-o root -g mysite ", "").replace("/etc/mysite/tls", str(target)))

    run("sh", script, RENEWED_LINEAGE=str(certificate))

    assert sorted(one.name for one in target.iterdir()) == ["fullchain.pem", "privkey.pem"]
    assert {one.stat().st_mode & 0o777 for one in target.iterdir()} == {0o640}


# Commands, settings and variables that there are ---------------------------------------------------------------------


def commands() -> dict[str, list[str]]:
    """The arguments of `fairway` in each file that starts it."""
    image = json.loads(re.findall(r"(?m)^CMD (\[.*\])$", text("Dockerfile"))[-1])
    return {
        "Dockerfile": image[1:],
        **{
            name: shlex.split(re.findall(r"(?m)^ExecStart=(\S.*)$", text(name).replace("\\\n", ""))[-1])[1:]
            for name in ("mysite.service", "tls/tls.conf")
        },
    }


@pytest.mark.parametrize("name", ["Dockerfile", "mysite.service", "tls/tls.conf"])
def test_fairway_takes_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [APPLICATION if one == "mysite.asgi:application" else one for one in commands()[name]]

    assert APPLICATION in arguments
    assert cli.main(["config", *arguments]) == 0, capsys.readouterr().err


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names in `production.py`."""
    development = ModuleType("mysite.settings")
    development.INSTALLED_APPS = ["channels"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mysite", ModuleType("mysite"))
    monkeypatch.setitem(sys.modules, "mysite.settings", development)
    for line in text("environment").splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    return runpy.run_path(str(DEPLOY / "production.py"))


def test_the_settings_are_ones_that_fairway_has(production: dict[str, Any]) -> None:
    limits = Limits.from_settings(production["FAIRWAY"])
    layer = production["CHANNEL_LAYERS"]["default"]

    assert (limits.management, limits.health_path) == ("unix:/run/mysite/management", "/healthz")
    assert layer["BACKEND"] == f"fairway.layers.redis.{RedisChannelLayer.__name__}"
    assert RedisChannelLayer(**layer["CONFIG"]) is not None
    assert production["INSTALLED_APPS"] == ["channels"]
    assert not production["DEBUG"]


def variables() -> Iterator[tuple[str, str]]:
    """The environment variables that files set for the server."""
    yield from (tuple(one.split("=", 1)) for one in text("environment").splitlines())  # type: ignore[misc]
    for line in re.findall(r"(?m)^ENV (.+)$", text("Dockerfile")):
        yield from (tuple(one.split("=", 1)) for one in line.split())  # type: ignore[misc]
    yield from yaml.safe_load(text("compose.yaml"))["services"]["web"]["environment"].items()
    (container,) = pod()["containers"]
    yield from ((one["name"], one["value"]) for one in container["env"])


def test_the_variables_are_ones_that_somebody_reads() -> None:
    others = {"DJANGO_SETTINGS_MODULE", "SECRET_KEY", "REDIS_URL", "STATIC_ROOT", "PATH", "FORWARDED_ALLOW_IPS"}
    limits = {variable_name(field) for field in Limits.__dataclass_fields__}
    given = list(variables())

    assert {name for name, _ in given} - others - limits == set()
    assert Limits().with_environment({name: value for name, value in given if name in limits}).management
    for name, value in given:
        if name == "FORWARDED_ALLOW_IPS":
            assert trusted_networks([value])
    read = {node.slice.value for node in ast.walk(ast.parse(text("production.py"))) if isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)}  # fmt: skip
    assert {"SECRET_KEY", "REDIS_URL"} <= read


# They agree with each other ------------------------------------------------------------------------------------------


def test_everybody_means_the_same_socket() -> None:
    assert unit("mysite.socket")["Socket"]["ListenStream"] == SOCKET
    assert f"server unix:{SOCKET};" in text("nginx.conf")
    assert f"reverse_proxy unix/{SOCKET} " in text("Caddyfile")
    # What is in the service's own folder is removed whenever it stops, and the socket has to stay.
    assert not SOCKET.startswith(f"/run/{unit('mysite.service')['Service']['RuntimeDirectory']}/")


def test_a_reload_follows_the_link() -> None:
    service = unit("mysite.service")["Service"]

    assert service["Environment"] == f"PWD={service['WorkingDirectory']}" == "PWD=/srv/mysite/current"
    assert service["ExecReload"].endswith("-HUP $MAINPID")


def test_nobody_is_killed_before_the_server_has_given_up(production: dict[str, Any]) -> None:
    seconds = Limits.from_settings(production["FAIRWAY"]).shutdown_timeout + 10
    service = unit("mysite.service")["Service"]
    web = yaml.safe_load(text("compose.yaml"))["services"]["web"]
    (container,) = pod()["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > seconds
    assert int(web["stop_grace_period"].removesuffix("s")) > seconds
    assert pod()["terminationGracePeriodSeconds"] > pause + seconds


def test_the_balancer_asks_the_path_that_the_settings_name(production: dict[str, Any]) -> None:
    path = production["FAIRWAY"]["HEALTH_PATH"]

    assert f"option httpchk GET {path}\n" in text("haproxy.cfg")
    assert f"deny if {{ path {path} }}" in text("haproxy.cfg")


def objects() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(text("kubernetes.yaml"))}


def pod() -> dict[str, Any]:
    return objects()["Deployment"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def test_the_objects_of_kubernetes_find_each_other() -> None:
    found = objects()
    (container,) = pod()["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert {one["targetPort"] for one in found["Service"]["spec"]["ports"]} <= ports.keys()
    assert {
        port["port"] for rule in found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]
    } <= ports.keys()
    probes = [container[f"{which}Probe"]["httpGet"] for which in ("startup", "readiness", "liveness")]
    assert [(one["path"], one["port"]) for one in probes] == [
        ("/ready", "management"), ("/ready", "management"), ("/health", "management"),
    ]  # fmt: skip
    address = next(one["value"] for one in container["env"] if one["name"] == "FAIRWAY_MANAGEMENT")
    assert address == f"public:0.0.0.0:{ports['management']}"
    assert ports["http"] == 8000
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod()["volumes"]}
    assert f"--uid {container['securityContext']['runAsUser']} " in text("Dockerfile")


def test_the_services_of_compose_find_each_other() -> None:
    compose = yaml.safe_load(text("compose.yaml"))
    web, caddy, redis = (compose["services"][name] for name in ("web", "caddy", "redis"))
    (network,) = compose["networks"]

    assert {tuple(one["networks"]) for one in (web, caddy, redis)} == {(network,)}
    assert compose["networks"][network]["ipam"]["config"][0]["subnet"] == web["environment"]["FORWARDED_ALLOW_IPS"]
    assert caddy["command"][-1] == "web:8000"
    assert "redis://redis:6379" in web["environment"]["REDIS_URL"]
    assert "EXPOSE 8000" in text("Dockerfile")
    probe = web["healthcheck"]["test"]
    assert probe[:3] == ["CMD", "python", "-c"]
    ast.parse(probe[3])
    management = re.search(r"FAIRWAY_MANAGEMENT=(\S+)", text("Dockerfile"))
    assert management is not None
    assert f"http://{management[1]}/ready" in probe[3]


def test_the_image_is_built_from_what_there_is() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "CMD"}
    lines = text("Dockerfile").splitlines()
    stages = re.findall(r"(?m)^FROM (\S+) AS (\S+)$", text("Dockerfile"))

    assert {line.split()[0] for line in lines if line} == known
    assert set(re.findall(r"COPY --from=(\S+)", text("Dockerfile"))) == {name for _, name in stages}
    assert "daphne" not in text("Dockerfile")


def test_the_permissions_of_redis_are_those_of_the_page_on_layers() -> None:
    page = ROOT / "docs" / "howto" / "choose-a-layer.md"
    (command,) = [one.text for one in split(page)[0] if one.text.startswith("ACL SETUSER")]
    (user,) = [line for line in text("users.acl").splitlines() if line.startswith("user mysite ")]

    assert user.split()[4:] == command.split()[5:]
    assert user.split()[:3] == ["user", "mysite", "on"]


def test_every_file_is_named_by_the_readme_and_shown_on_a_page() -> None:
    readmes = {"README.md", "README.zh-CN.md"}
    files = {one.relative_to(DEPLOY).as_posix() for one in DEPLOY.rglob("*") if one.is_file()} - readmes
    pages = [page for page in (ROOT / "docs" / "howto").glob("*.md") if ".zh-CN" not in page.name]
    shown = {block.path for page in pages for block in split(page)[0] if block.kind == "from"}

    assert {f"examples/deploy/{one}" for one in files} <= shown
    assert [(readme, one) for readme in readmes for one in files if f"`{one}`" not in text(readme)] == []
