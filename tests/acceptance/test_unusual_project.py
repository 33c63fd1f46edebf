"""The wheel in a project whose settings are allowed and rare; docs/supported.md lists them."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance import wheels
from tests.acceptance.conftest import drop_databases, libpq, new_database
from tests.acceptance.demos import ROOT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def database() -> Iterator[dict[str, str]]:
    """The variables of libpq that lead to an empty database."""
    url = new_database()
    yield libpq(url)
    drop_databases(url)


def test_the_road_of_a_report_with_unusual_settings(wheel: Path, folder: Path, database: dict[str, str]):
    run = partial(wheels.python, cwd=folder, variables=database)
    # The wheel alone is installed. What it needs, and the tools of the tests, are those of this environment.
    uv = str(Path(sys.executable).with_name("uv"))
    run(uv, "venv", "--quiet", "--python", sys.executable, "venv")
    python = str(folder / "venv" / "bin" / "python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "tests.pth").write_text(sysconfig.get_path("purelib"))
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", str(wheel))
    run(python, "-m", "django", "startproject", "theirs", ".")
    for name in ("unusual", "custom_user"):
        shutil.copytree(ROOT / "tests" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    options = ("--ds=unusual.settings", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist")
    printed = run(python, "-m", "pytest", *options, "unusual/road.py")
    assert re.search(r"^8 passed", printed, re.MULTILINE), printed
