"""docs/state-machine.md says what `states.TRANSITIONS` says: the diagram edge by edge, the prose verb by verb."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reportqueue.states import FINAL, TRANSITIONS, Status

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text()
(DIAGRAM,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
OUTSIDE = "[*]"


def drawn() -> list[tuple[str, str, str]]:
    """The diagram's edges, one for each verb: verb, status before, status after."""
    edges = []
    for line in filter(None, map(str.strip, DIAGRAM.splitlines())):
        match = re.fullmatch(r"(\S+) --> (\S+): (\S.*)", line)
        assert match, f"not an edge: {line}"
        edges += [(verb, match[1], match[2]) for verb in match[3].split(", ")]
    return edges


def test_the_diagram_has_every_move_of_the_table_and_no_other():
    moves = [edge for edge in drawn() if OUTSIDE not in edge]
    assert len(moves) == len(set(moves))
    assert set(moves) == {
        (verb.value, before.value, after.value)
        for verb, reached in TRANSITIONS.items()
        for before, statuses in reached.items()
        for after in statuses
    }


def test_rows_come_in_queued_or_skipped_and_go_when_they_are_final():
    assert {edge for edge in drawn() if edge[1] == OUTSIDE} == {
        ("enqueue", OUTSIDE, Status.QUEUED.value),
        ("the scheduler", OUTSIDE, Status.SKIPPED.value),
    }
    assert {edge for edge in drawn() if edge[2] == OUTSIDE} == {("prune", status.value, OUTSIDE) for status in FINAL}


def test_every_status_has_its_section_in_the_order_of_the_code():
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == [status.value for status in Status]


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_left_by_the_verbs_of_the_table(status: Status):
    (section,) = re.findall(rf"^### {status.value}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    (sentence,) = re.findall(r"^- Leaves by: (.*?)\.\n", section, re.DOTALL | re.MULTILINE)
    leaves_by = re.findall(r"`(\w+)`", sentence)
    assert len(leaves_by) == len(set(leaves_by))
    assert set(leaves_by) == {verb.value for verb, moves in TRANSITIONS.items() if status in moves}
    assert len(re.findall(r"^- A crash: ", section, re.MULTILINE)) == 1
