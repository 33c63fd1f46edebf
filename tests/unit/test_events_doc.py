"""docs/events.md names the types of events that the code has, and no others."""

from __future__ import annotations

import re

from project.environment import BASE_DIR
from reportqueue.models.event import EventType

PAGE = (BASE_DIR / "docs" / "events.md").read_text()


def test_its_table_has_each_type_of_event():
    (table,) = re.findall(r"^\| type \| when \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    named = [name for line in table.splitlines() for name in re.findall(r"`([\w.]+)`", line.split("|")[1])]
    assert sorted(named) == sorted(EventType.values)
