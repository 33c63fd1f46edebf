"""An installation is migrated while it works: the code from before the last migration goes on with the new tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from project.environment import BASE_DIR
from tools.runner.postgres import create_database, with_database

MIGRATIONS = "reportqueue/migrations"
SCRIPT = Path(__file__).with_name("old_code.py")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=BASE_DIR, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def before_the_last_migration() -> str:
    """The last commit with fewer migrations than now."""
    if git("status", "--porcelain", "--", MIGRATIONS):
        return "HEAD"
    return git("log", "-1", "--diff-filter=A", "--format=%H", "--", MIGRATIONS) + "^"


def test_the_code_from_before_the_last_migration_works_on_the_new_tables(tmp_path: Path):
    try:
        commit = git("rev-parse", before_the_last_migration())
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("this folder has no history of commits")
    archive = subprocess.run(["git", "archive", commit], cwd=BASE_DIR, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    url = with_database(os.environ["DATABASE_URL"], "old_code")
    create_database(url)
    variables = os.environ | {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "SECRET_KEY": "of this test",
        "REPORTQUEUE_DATA_DIR": str(tmp_path / "data"),
    }
    now = {"cwd": BASE_DIR, "env": variables | {"PYTHONPATH": str(BASE_DIR)}}
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], check=True, **now)
    old = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=tmp_path,
        env=variables | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert old.returncode == 0, old.stdout + old.stderr
    assert json.loads(old.stdout.splitlines()[-1]) == ["succeeded"]
