"""Places in a payload: found, missing with how far it goes, and paths that are none."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from reportqueue import payloads

PAYLOAD = {"data": {"lines": [{"id": 7}, {"id": 8}], "0": "a name, not a place", "none": None}, "$": 1}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.lines.1.id", 8),
        ("data.0", "a name, not a place"),
        ("data.none", None),
        ("$", PAYLOAD),
    ],
)
def test_a_value_is_found_where_the_path_leads(path: str, found: Any):
    assert payloads.at(PAYLOAD, path) == found


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("data.lines.2.id", "data.lines.2"),
        ("data.lines.-1", "data.lines.-1"),
        ("data.lines.\u0661", "data.lines.\u0661"),
        ("data.lines.id", "data.lines.id"),
        ("data.none.x", "data.none.x"),
        ("nothing.at.all", "nothing"),
        ("data.lines.99999999999999999999", "data.lines.9"),
    ],
)
def test_what_is_not_there_is_named_as_far_as_it_goes(path: str, named: str):
    with pytest.raises(payloads.NotThere, match=f"has no {named}"):
        payloads.at(PAYLOAD, path)


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a\x00b", "x" * 201])
def test_a_path_without_a_place_is_refused(path: str):
    with pytest.raises(ValidationError, match="is not a path"):
        payloads.validate_path(path)
