"""docs/architecture.md against the tree: it names each module, and each path that it names exists."""

from __future__ import annotations

import re
import subprocess

import pytest

from project.environment import BASE_DIR

PAGE = (BASE_DIR / "docs" / "architecture.md").read_text()

TREE = [
    path
    for path in subprocess.run(
        ["git", "ls-files"], cwd=BASE_DIR, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if path.endswith(".py")
]
MODULES = [
    path
    for path in TREE
    if path.startswith(
        ("reportqueue/", "dagster_reportqueue/", "orchestrator/", "project/", "reportcron/", "tools/runner/")
    )
    and not path.endswith("__init__.py")
    and "/migrations/" not in path
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)`", PAGE)))


def test_there_is_something_to_compare():
    assert len(MODULES) > 120
    assert len(NAMED) > 30


@pytest.mark.parametrize("path", MODULES)
def test_a_module_is_named(path: str):
    name = path.rsplit("/", 1)[-1].removesuffix(".py")
    assert re.search(rf"\b{re.escape(name)}\b", PAGE), f"docs/architecture.md does not say what {path} is for"


@pytest.mark.parametrize("path", NAMED)
def test_a_path_that_is_named_exists(path: str):
    assert any(one.endswith(f"/{path}") or one == path for one in TREE), path
