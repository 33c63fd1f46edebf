"""The verdict: which rows were lost, done twice or stuck, from the ledger and the queue's final state. Pure functions.

A work that ended well but was never accepted is no success if a fault explains it: its process was killed or frozen,
or calls about its row got lost. At least once is all that anybody can promise for those. Without such a fault it
counts, and the row's next success is one too many.

A bad report is expected to come to no success: `expected` says how its row may end, and how often it is begun.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tools.chaos.ledger import Line

FINAL = ("succeeded", "failed", "cancelled", "skipped")
OUTAGE_BEFORE, OUTAGE_AFTER = 15.0, 30.0
"""How long before its begin and after its end an outage can have cost a work its acceptance."""
WAKE_SECONDS = 3.0
"""How long a frozen work may go on after it was woken up."""
LOST, TWICE, STUCK = "lost", "twice", "stuck"


@dataclass(frozen=True)
class Row:
    """A row at the end, as the queue knows it."""

    status: str
    succeeded_runs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Expected:
    """What a bad report's row is to come to. `most` is None where the deaths of others may use up its runs."""

    ends: frozenset[str]
    least: int
    most: int | None


@dataclass
class Execution:
    """The work of one run for one row: `outcome` is ok, raise, died (no end line, but a death) or open (neither)."""

    row: int
    run: str
    pid: int
    begin: float
    end: float = float("inf")
    outcome: str = "open"
    accepted: bool = False
    frozen_at: float | None = None
    woken_at: float | None = None
    killed: bool = False

    @property
    def busy_until(self) -> float:
        """When it last did anything, but for what it does between its waking up and its stop."""
        return min(self.end, self.frozen_at) if self.frozen_at is not None else self.end


@dataclass
class Verdict:
    """What is wrong with a row: for each of lost, twice, stuck the reasons."""

    reasons: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def executions(lines: Iterable[Line]) -> list[Execution]:
    """Every execution, in the order of their begins; a run may have many, one for each of its rows."""
    found: dict[tuple[str, int], Execution] = {}
    of_run: dict[str, list[Execution]] = defaultdict(list)
    doomed: set[int] = set()
    for line in sorted(lines, key=lambda line: float(line["t"])):
        at, kind, run = float(line["t"]), line["kind"], line.get("run")
        if kind == "begin":
            found[run, line["row"]] = one = Execution(line["row"], run, line["pid"], at)
            of_run[run].append(one)
        elif kind == "fault":
            doomed.update(line.get("pids", ()))
        elif kind == "death":
            killed = line["signal"] != 0 or line["pid"] in doomed  # one that calls os._exit dies of no signal
            doomed.discard(line["pid"])
            for one in of_run[run]:
                one.killed = one.killed or killed
                if one.outcome == "open":
                    one.end, one.outcome = at, "died"
        elif (run, line.get("row")) in found:
            one = found[run, line["row"]]
            if kind == "end":
                one.end, one.outcome = at, line["outcome"]
            elif kind == "stop":
                one.frozen_at = at
            elif kind == "cont":
                one.woken_at = at
            elif kind == "accepted":
                one.accepted = True
    return list(found.values())


def judge(lines: Sequence[Line], rows: Mapping[int, Row], wanted: Iterable[int]) -> dict[int, Verdict]:
    """The rows with something wrong, of those `wanted`; a row that `rows` does not have has disappeared."""
    outages, cycles, expected = _outages(lines), _cycles(lines), _expected(lines)
    late = {line["row"] for line in lines if line["kind"] == "late"}
    given_up = {line["row"] for line in lines if line["kind"] == "given up"}
    by_row: dict[int, list[Execution]] = defaultdict(list)
    for execution in executions(lines):
        by_row[execution.row].append(execution)
    bad: dict[int, Verdict] = {}
    for pk in sorted(set(wanted) | set(by_row)):
        if pk in expected:
            verdict = _judge_bad(by_row[pk], rows.get(pk), expected[pk])
        else:
            verdict = _judge_row(by_row[pk], rows.get(pk), 1 + cycles[pk], outages[pk])
        if pk in late and not verdict.reasons.get(STUCK):
            verdict.reasons[STUCK] = ["final only after its deadline"]
        if pk in given_up:
            verdict.reasons[STUCK] = ["not final at its deadline"]
            verdict.reasons.pop(LOST, None)  # how it ended was the harness's doing
        if verdict.reasons:
            bad[pk] = verdict
    return bad


def undelivered(lines: Sequence[Line], rows: Mapping[int, Row]) -> int:
    """How many works ended well, but their runs were killed, frozen or cut off before they could say so."""
    outages = _outages(lines)
    done = executions(lines)
    for one in done:
        one.accepted = one.accepted or (one.row in rows and one.run in rows[one.row].succeeded_runs)
    return sum(1 for one in done if one.outcome == "ok" and _excused(one, outages[one.row]))


def _judge_row(done: list[Execution], row: Row | None, expected: int, outages: list[float]) -> Verdict:
    verdict = Verdict()
    if row is None:
        verdict.reasons[LOST].append("the row has disappeared")
        row = Row("missing")
    elif row.status not in FINAL:
        verdict.reasons[STUCK].append(f"still {row.status}")
    elif row.status != "succeeded":
        verdict.reasons[LOST].append(f"ended as {row.status}")
    for one in done:
        one.accepted = one.accepted or one.run in row.succeeded_runs
    successes = [one for one in done if one.outcome == "ok" and not _excused(one, outages)]
    if len(successes) > expected:
        runs = ", ".join(one.run[:8] for one in successes)
        verdict.reasons[TWICE].append(f"{len(successes)} successes where {expected} were asked for: runs {runs}")
    if len(successes) < expected and row.status in FINAL:
        verdict.reasons[LOST].append(f"{len(successes)} successes in the ledger where {expected} were asked for")
    unproven = row.succeeded_runs - {one.run for one in done if one.outcome == "ok"}
    if unproven:
        verdict.reasons[LOST].append(f"the queue believes in a success of {sorted(unproven)}; the ledger has none")
    verdict.reasons[TWICE] += _overlaps(done) + _woken(done)
    verdict.reasons = {kind: reasons for kind, reasons in verdict.reasons.items() if reasons}
    return verdict


def _judge_bad(done: list[Execution], row: Row | None, expected: Expected) -> Verdict:
    verdict = Verdict()
    if row is None:
        verdict.reasons[LOST].append("the row has disappeared")
    elif row.status not in FINAL:
        verdict.reasons[STUCK].append(f"still {row.status}")
    elif row.status not in expected.ends:
        verdict.reasons[LOST].append(f"ended as {row.status}, not as {' or '.join(sorted(expected.ends))}")
    if row is not None and row.succeeded_runs:
        verdict.reasons[LOST].append(f"the queue believes in a success of {sorted(row.succeeded_runs)}")
    if row is not None and row.status in FINAL and len(done) < expected.least:
        verdict.reasons[LOST].append(f"begun {len(done)} times where {expected.least} were asked for")
    if expected.most is not None and len(done) > expected.most:
        verdict.reasons[TWICE].append(f"begun {len(done)} times where {expected.most} were asked for")
    verdict.reasons[TWICE] += _overlaps(done)
    verdict.reasons = {kind: reasons for kind, reasons in verdict.reasons.items() if reasons}
    return verdict


def _excused(one: Execution, outages: list[float]) -> bool:
    if one.accepted:
        return False
    near = (one.begin - OUTAGE_BEFORE, one.end + OUTAGE_AFTER)
    return one.killed or one.frozen_at is not None or any(near[0] <= at <= near[1] for at in outages)


def _overlaps(done: list[Execution]) -> list[str]:
    found = []
    for place, one in enumerate(done):
        for other in done[place + 1 :]:
            together = min(one.busy_until, other.busy_until) - max(one.begin, other.begin)
            if together > 0:
                found.append(f"runs {one.run[:8]} and {other.run[:8]} worked at the same time for {together:.3f} s")
    return found


def _woken(done: list[Execution]) -> list[str]:
    """A frozen work must stop soon after it wakes up, and must not have ended well."""
    found = []
    for one in done:
        # Frozen after its work, on its way to `complete`: then its end is before, and only acceptance counts.
        if one.woken_at is None or one.frozen_at is None or one.end < one.frozen_at:
            continue
        if one.outcome == "ok":
            found.append(f"run {one.run[:8]} woke up without its lease and ended well")
        elif one.end - one.woken_at > WAKE_SECONDS:
            found.append(f"run {one.run[:8]} woke up without its lease and went on for {one.end - one.woken_at:.1f} s")
    return found


def _outages(lines: Iterable[Line]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "fault" and line.get("outage"):
            for pk in line["rows"]:
                found[pk].append(float(line["t"]))
    return found


def _cycles(lines: Iterable[Line]) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for line in lines:
        if line["kind"] == "cycle":
            found[line["row"]] += 1
    return found


def _expected(lines: Iterable[Line]) -> dict[int, Expected]:
    return {
        line["row"]: Expected(frozenset(line["ends"]), line["least"], line["most"])
        for line in lines
        if line["kind"] == "expected"
    }
