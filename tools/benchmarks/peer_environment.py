"""The environment of the queues with which `claim` and `peers` compare; created once below the data folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from project.environment import BASE_DIR, DATA_DIR
from tools.runner.venv import clean_environment

REQUIREMENTS = BASE_DIR / "tools" / "benchmarks" / "peers.txt"
FOLDER = DATA_DIR / "benchmark-peers"
LOG = FOLDER.with_suffix(".log")


class PeersMissing(Exception):
    """The peers could not be installed; the message is one line with the path of the log."""


def python() -> Path:
    """The Python of their environment, which is created if it is missing. Raises `PeersMissing`."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    python, installed = FOLDER / "bin" / "python", FOLDER / "installed.sha256"
    if installed.exists() and installed.read_text() == wanted and python.exists():
        return python
    print(f"Installing the peers into {FOLDER} (once) ...", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        for command in (
            [sys.executable, "-m", "venv", str(FOLDER)],
            [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
        ):
            if subprocess.run(command, stdout=log, stderr=log, env=clean_environment()).returncode:
                raise PeersMissing(f"the peers could not be installed (is the package index within reach?); see {LOG}")
    installed.write_text(wanted)
    return python


def versions(python: Path, names: Sequence[str]) -> str:
    """The versions that are measured."""
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *names], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
