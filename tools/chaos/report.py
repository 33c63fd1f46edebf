"""The table, and the histories of the rows that something is wrong with."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tools.chaos import points
from tools.chaos.judge import LOST, STUCK, TWICE, Verdict
from tools.chaos.ledger import Line

NEVER_REACHED = "Never reached: "
NO_POINT = "(no fault of their own)"
VERDICTS = (LOST, TWICE, STUCK)


def table(lines: Sequence[Line], bad: Mapping[int, Verdict], reached: Sequence[str]) -> tuple[str, bool]:
    """The table's text, and whether its last three columns are all zero.

    A row counts at each point that hit it, or that it was beside. `reached` are the points that had to be.
    """
    times: dict[str, int] = defaultdict(int)
    hit: dict[str, set[int]] = defaultdict(set)
    for line in lines:
        if line["kind"] == "fault":
            times[line["point"]] += 1
            hit[line["point"]] |= set(line["rows"])
        elif line["kind"] == "beside":
            hit[line["point"]] |= set(line["rows"])
    problems = [line for line in lines if line["kind"] == "problem"]
    width = max(map(len, reached))
    head = f"{'point':<{width}}  {'times':>6}{'lost':>6}{'twice':>6}{'stuck':>6}"
    text, fine = [head, "-" * len(head)], True
    unexplained = set(bad) - set().union(*hit.values())
    for point in (*reached, *([NO_POINT] if unexplained else [])):
        rows = unexplained if point == NO_POINT else hit[point] & set(bad)
        counts = [
            sum(1 for row in rows if bad[row].reasons.get(kind))
            + sum(1 for line in problems if line["point"] == point and line["verdict"] == kind)
            for kind in VERDICTS
        ]
        fine = fine and not any(counts)
        text.append(f"{point:<{width}}  {times[point]:>6}" + "".join(f"{count:>6}" for count in counts))
    network = sum(times[point] for point in points.NETWORK)
    text.append(f"{sum(times.values()) - network} faults in processes, {network} messages disturbed.")
    if never := [point for point in reached if not times[point]]:
        text.append(f"{NEVER_REACHED}{'; '.join(never)}.")
    return "\n".join(text), fine


def histories(lines: Iterable[Line], bad: Mapping[int, Verdict], attempts: Mapping[int, Sequence[Any]]) -> str:
    """Everything known about the bad rows."""
    text = [json.dumps(line) for line in lines if line["kind"] == "problem"]
    for row, verdict in bad.items():
        text.append(f"row {row}:")
        text += [f"  {kind}: {reason}" for kind, reasons in verdict.reasons.items() for reason in reasons]
        text += [f"  attempt {attempt}" for attempt in attempts.get(row, ())]
        text += [
            f"  {json.dumps({**line, 'rows': row} if 'rows' in line else line)}"
            for line in lines
            if line.get("row") == row or row in line.get("rows", ())
        ]
    return "\n".join(text)
