"""The virtual environment `.venv`: created once, and installed again only when `requirements.txt` changes.

Uses the standard library only, because it installs everything else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, NoReturn

from project.environment import BASE_DIR, DATA_DIR
from tools.runner import stop_signals
from tools.runner.processes import ChildFailed, Children

VENV = (BASE_DIR / ".venv").resolve()  # a link to that of another checkout is that one
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = BASE_DIR / "requirements.txt"
LOG = VENV / "install.log"
LOCK = VENV / "lock"
MADE_FOR = VENV / "made-for"
INSTALLED = VENV / "installed.sha256"
HERE = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]} {VENV}"
"""The Python and the place of the environment: it works neither with another Python nor after a move."""


class InstallFailed(Exception):
    """The environment could not be created; the message is one line with the path of the log."""


def ensure() -> None:
    """Create the environment and install the requirements, unless done. Raises `InstallFailed` or `Stopped`."""
    try:
        wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + HERE.encode()).hexdigest()
        if _is_ready(wanted):
            return
        VENV.mkdir(exist_ok=True)
        with LOCK.open("w") as lock:
            _take(lock)
            if not _is_ready(wanted):
                _make(lock)
                INSTALLED.write_text(wanted)
    except OSError as error:
        raise InstallFailed(f"{error.filename or VENV}: {error.strerror or error}") from None


def go_on(arguments: list[str]) -> NoReturn:
    """Replace this process by the rest of the program in the environment. Raises `Stopped`."""
    if "REPORTQUEUE_DATA_DIR" in os.environ:  # it may be relative to the working directory, which changes here
        os.environ["REPORTQUEUE_DATA_DIR"] = str(DATA_DIR)
    os.chdir(BASE_DIR)  # `-m` finds the project there
    stop_signals.unlisten()
    os.execve(PYTHON, [str(PYTHON), "-m", "tools.runner", *arguments], clean_environment())  # noqa: S606


def clean_environment() -> dict[str, str]:
    """This process's variables, without those that add other packages or change where pip installs."""
    foreign = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"}
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _is_ready(wanted: str) -> bool:
    return _read(INSTALLED) == wanted and PYTHON.exists()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _take(lock: IO[str]) -> None:
    """Take the lock; of two first runs at the same time, the second waits for the first."""
    announced = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not announced:
                print(f"Waiting for another run.py that installs into {VENV} ...", flush=True)
            announced = True
            stop_signals.check()
            time.sleep(0.2)


def _make(lock: IO[str]) -> None:
    print(f"Installing the pinned requirements into {VENV} (one to two minutes, once) ...", flush=True)
    INSTALLED.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    if _read(MADE_FOR) != HERE or not PYTHON.exists():
        for entry in VENV.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != LOCK:
                entry.unlink()
        problem = "the virtual environment could not be created (on Debian and Ubuntu, is python3-venv installed?)"
        _run(lock, [sys.executable, "-m", "venv", str(VENV)], problem)
        MADE_FOR.write_text(HERE)
    # The lock names every package. Without `--no-deps`, pip refuses the hash of one that another wants with an extra.
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "-r", str(REQUIREMENTS)]
    _run(lock, pip, "pip could not install the requirements (no network?)")


def _run(lock: IO[str], command: list[str], problem: str) -> None:
    children = Children(VENV)
    try:
        # pip holds the lock, too: if this process is killed, the next one waits until pip has ended.
        children.run(LOG.stem, command, clean_environment(), keep_open=[lock.fileno()])
    except ChildFailed:
        raise InstallFailed(f"{problem}; see {LOG}") from None
    finally:
        children.stop_all(3.0)
