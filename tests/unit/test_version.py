"""The version is written in one place, and all that shows it has it from there."""

from __future__ import annotations

import re
import subprocess
import tomllib

from project.environment import BASE_DIR
from reportqueue import __version__
from tests import openapi

SOURCE = "reportqueue/__init__.py"
GENERATED = "reportqueue/api/openapi/openapi.json"
"""A test holds it equal to what the code says."""
HISTORY = "CHANGELOG.md"
OF_OTHERS = ("requirements.txt", "docs/supported.md", "tools/benchmarks/")
"""They name versions of other packages."""


def test_the_build_reads_the_version_of_the_code():
    settings = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())
    assert "version" not in settings["project"]
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["hatch"]["version"] == {"path": SOURCE}
    assert re.findall(r'^__version__ = "(.+)"$', (BASE_DIR / SOURCE).read_text(), re.MULTILINE) == [__version__]


def test_no_other_file_has_the_version():
    pattern = rf"(^|[^0-9.]){re.escape(__version__)}($|[^0-9.]|\.($|[^0-9]))"
    listed = subprocess.run(
        ["git", "grep", "-I", "-l", "-E", pattern], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    found = {path for path in listed.stdout.splitlines() if not path.startswith(OF_OTHERS)}
    assert found == {SOURCE, GENERATED, HISTORY}


def test_the_description_of_the_api_has_the_version():
    assert openapi.described()["info"]["version"] == __version__
