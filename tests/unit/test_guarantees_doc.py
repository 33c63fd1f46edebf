"""The documentation names tests: they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = {
    page: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text())
    for page in ("guarantees.md", "migration.md")
}


@pytest.mark.parametrize("page", NAMED)
def test_what_is_promised_names_tests(page: str):
    assert len(NAMED[page]) > 15


@pytest.mark.parametrize(("file", "name"), sorted({test for named in NAMED.values() for test in named}))
def test_a_named_test_exists(file: str, name: str):
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
