"""Make what the benchmarks need in bench/.cache/: the programs in C, the peers' environments, the sessions.

Everything is made once, and again when what it is made of has changed. Peers never enter the project's own environment.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
APPS = HERE / "apps"
PYTHON = CACHE / "peers/bin/python"
PLOTTER = CACHE / "plots/bin/python"
NODE = CACHE / "node"
LOAD = CACHE / "wsload"
FLOOR = CACHE / "floor"
DATABASE = CACHE / "sessions.sqlite3"
COOKIES = CACHE / "cookies.txt"
CERTIFICATE, KEY = CACHE / "certificate.pem", CACHE / "key.pem"
SESSIONS = 20_000

PYTHON_PEERS = [
    "channels==4.3.2",
    "daphne==4.2.3",
    "uvicorn[standard]==0.54.0",
    "hypercorn==0.18.0",
    "granian==2.8.7",
    "uvloop==0.23.0",
    "socketify==0.0.31",
    "Django>=5.2,<5.3",
    "psycopg[binary]==3.3.9",
]
NODE_PEERS = ["ws@8.23.0", "bufferutil@4.1.0", "socket.io@4.8.4"]
PLOTTING = ["matplotlib==3.11.2"]


def prepare() -> None:
    prepare_load()
    compile_program(FLOOR, "floor.c")
    make_environment(PYTHON.parents[1], PYTHON_PEERS)
    make_environment(PLOTTER.parents[1], PLOTTING)
    make_node()
    make_sessions()


def prepare_load() -> None:
    """The generator alone."""
    CACHE.mkdir(exist_ok=True)
    compile_program(LOAD, "wsload.c", "-lz", *(("-DTLS", "-lssl", "-lcrypto") if has_openssl() else ()))


def compile_program(program: Path, source: str, *libraries: str) -> None:
    newest = max((HERE / name).stat().st_mtime for name in (source, "handshake.h"))
    if program.exists() and program.stat().st_mtime > newest:
        return
    command = ["gcc", "-O3", "-o", str(program), str(HERE / source), *libraries]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cannot compile {source} (it needs gcc and zlib1g-dev):\n{done.stderr}")


def has_openssl() -> bool:
    """Whether the generator can speak TLS: the headers of OpenSSL are there (libssl-dev)."""
    command = ["gcc", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=b"#include <openssl/ssl.h>\n", capture_output=True).returncode == 0


def make_certificate() -> None:
    """A key and a certificate for localhost that nobody has to trust."""
    if CERTIFICATE.exists():
        return
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(KEY), "-out", str(CERTIFICATE), "-days", "3650", "-subj", "/CN=localhost"]
    subprocess.run([*command, *files], check=True, capture_output=True)


def make_environment(folder: Path, requirements: list[str]) -> None:
    wanted, mark = "\n".join(requirements), folder / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    print(f"Making {folder.relative_to(HERE.parent)}: {', '.join(requirements)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *requirements], check=True)
    mark.write_text(wanted)


def make_node() -> None:
    """The peers that run on Node. Without node they are left out, and the report says so."""
    wanted, mark = "\n".join(NODE_PEERS), NODE / "installed"
    if not has_node() or (mark.exists() and mark.read_text() == wanted):
        return
    print(f"Making {NODE.relative_to(HERE.parent)}: {', '.join(NODE_PEERS)}", flush=True)
    NODE.mkdir(exist_ok=True)
    (NODE / "package.json").write_text('{"private": true}\n')
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PEERS], cwd=NODE, check=True)
    mark.write_text(wanted)


def has_node() -> bool:
    return bool(shutil.which("node") and shutil.which("npm"))


def make_sessions() -> None:
    sources = [APPS / "prepare_sessions.py", APPS / "site_app.py"]
    if COOKIES.exists() and COOKIES.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return
    print(f"Making {SESSIONS:,} users with sessions", flush=True)
    DATABASE.unlink(missing_ok=True)
    environment = os.environ | {"BENCH_DATABASE": str(DATABASE), "PYTHONPATH": str(APPS)}
    subprocess.run([sys.executable, sources[0], COOKIES, str(SESSIONS)], check=True, env=environment)


def versions() -> dict[str, str]:
    """Of everything that was measured, and of the machine."""
    listed = subprocess.run([PYTHON, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    names = {requirement.partition("[")[0].partition("=")[0].partition(">")[0] for requirement in PYTHON_PEERS}
    names |= {"websockets", "httptools", "Twisted", "autobahn", "asgiref"}
    found = {
        item["name"]: item["version"] for item in json.loads(listed.stdout) if item["name"].lower() in _lower(names)
    }
    for package in NODE_PEERS if has_node() else ():
        name = package.rpartition("@")[0]
        found[name] = json.loads((NODE / "node_modules" / name / "package.json").read_text())["version"]
    return found | {
        "fairway": _first_line([sys.executable, "-m", "fairway", "--version"]),
        "commit": _first_line(["git", "-C", str(HERE), "describe", "--always", "--dirty"]),
        "python": platform.python_version(),
        "node": _first_line(["node", "--version"]) if has_node() else "none",
        "gcc": _first_line(["gcc", "--version"]),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _lower(names: set[str]) -> set[str]:
    return {name.lower() for name in names}


def _first_line(command: list[str]) -> str:
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0] if lines else ""


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    prepare()
