"""The virtual environment `.venv`: made once, installed again only when `requirements.txt` changes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"
LOG = VENV / "install.log"
STAMP = VENV / "installed.sha256"


class InstallFailed(Exception):
    """The environment could not be made; the message is one line, with the log's path."""


def ensure() -> Path:
    """The environment's Python, with everything installed. Raises `InstallFailed`."""
    python = VENV / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if _installed() == wanted and python.exists():
        return python
    try:
        VENV.mkdir(exist_ok=True)
        with (VENV / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once: the second waits for the first
            if _installed() == wanted and python.exists():
                return python
            _make(python)
            STAMP.write_text(wanted)
    except OSError as error:
        raise InstallFailed(f"{VENV} cannot be written: {error.strerror or error}") from None
    return python


def _installed() -> str:
    try:
        return STAMP.read_text()
    except OSError:
        return ""


def _make(python: Path) -> None:
    print(f"Installing the pinned requirements into {VENV} (about a minute, once) ...", flush=True)
    STAMP.unlink(missing_ok=True)
    steps = [
        ([sys.executable, "-m", "venv", str(VENV)], "the virtual environment could not be made"),
        (
            [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
            "pip could not install the requirements (no network?)",
        ),
    ]
    with LOG.open("w") as log:
        for command, problem in steps:
            # Its own group is not needed: Ctrl-C must end pip too.
            if subprocess.run(command, stdout=log, stderr=log, env=_clean_environment(), check=False).returncode:
                raise InstallFailed(f"{problem}; see {LOG}")


def _clean_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    }
