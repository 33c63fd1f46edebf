"""Environments that uv makes: for the matrix, and for what a release installs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from project.environment import BASE_DIR
from tools.runner import checks, stop_signals
from tools.runner.venv import REQUIREMENTS, clean_environment

SYSTEM_CERTIFICATES = {"UV_SYSTEM_CERTS": "1"}
"""Have uv trust whom the system trusts: the package index may be behind a proxy with a certificate of its own."""


class UvFailed(Exception):
    """An environment could not be made; the message has the last lines of uv."""


def uv(*arguments: str) -> None:
    """Run uv in the project's folder. Raises `UvFailed` or `Stopped`."""
    command = [str(checks.BIN / "uv"), "--no-python-downloads", *arguments]
    variables = {**clean_environment(), **SYSTEM_CERTIFICATES}
    done = subprocess.run(command, cwd=BASE_DIR, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        stop_signals.check()
        raise UvFailed(done.stderr.strip()[-2_000:])


def write_pins(path: Path) -> Path:
    """Write the versions of requirements.txt without their hashes: our package, which is installed with them, has none.

    `UV_CONSTRAINT` is a list with spaces between, so a path for it must have none.
    """
    path.write_text(re.sub(r" *\\?\n +--hash=\S+", "", REQUIREMENTS.read_text()))
    return path
