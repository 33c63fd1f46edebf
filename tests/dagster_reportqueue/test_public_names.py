"""`from dagster_reportqueue import ...`: what users import, and what it costs those who need a part alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dagster_reportqueue


@pytest.mark.parametrize("name", dagster_reportqueue.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str):
    assert name in dir(dagster_reportqueue)
    found = getattr(dagster_reportqueue, name)
    assert found is getattr(dagster_reportqueue, name)
    assert name == "Work" or found.__doc__


def test_a_name_that_is_not_public_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="has no attribute 'build_everything'"):
        _ = dagster_reportqueue.build_everything


def test_type_checkers_see_the_names_that_are_there():
    tree = ast.parse(Path(dagster_reportqueue.__file__).read_text())
    ifs = [node for node in tree.body if isinstance(node, ast.If)]
    (checked,) = [node for node in ifs if ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(dagster_reportqueue.__all__)
