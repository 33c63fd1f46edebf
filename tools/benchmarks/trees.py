"""Another commit of this project, checked out beside it, so that both can be measured in turns."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from project.environment import BASE_DIR
from tools.benchmarks.installation import FOLDER


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The folder of a commit with today's `tools/`, so that both are measured in the same way.

    Raises `ValueError` if there is no such commit.
    """
    folder = Path(os.environ[FOLDER]) / "other"
    try:
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{commit!r} cannot be checked out: {error.stderr.strip()}") from None
    try:
        shutil.rmtree(folder / "tools")
        shutil.copytree(BASE_DIR / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        settings = folder / "reportqueue" / "gunicorn.py"
        if not settings.exists():  # a commit of before e14fad3, whose web app had its settings on the command line
            settings.write_text('"""As today\'s."""\n\nworker_class, threads, graceful_timeout = "gthread", 16, 1\n')
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def name_of(commit: str) -> str:
    """The commit's short name."""
    return _git("rev-parse", "--short", commit)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=BASE_DIR, check=True, capture_output=True, text=True)
    return done.stdout.strip()
