"""The verdict on a scenario, from its history and the final table. It knows what is promised, nothing of the code.

- Every row is final. An accepted request has its row; every row has a cause.
- A row that succeeded has one success, and its work ended well. What was accepted is a success.
- No two works of a row at the same time, nor of a schedule that limits overlaps.
- An attempt is used up only by a work that failed, or by the death or silence of the run that had the row in hand.
- Every firing of a schedule is a row, and there are no other firings; none while its calendar is closed.
- Nothing is silent: an end that is no success has a reason, every work an attempt, and nothing fails unexpectedly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tools.chaos.judge import FINAL, LOST, STUCK, TWICE
from tools.chaos.ledger import Line

SILENT = "silent"
WAKE_SECONDS = 3.0
"""How long a process may go on after it was frozen, until its own threads have stopped it."""
SCHEDULED_REPORT = 1
LAUNCHES = 3
"""After so many launches that came to nothing a row may fail without a work."""
ROW_FIELDS = (
    *("id", "status", "report_id", "modifier_id", "trigger_time", "error", "result", "idempotency_key"),
    *("attempt", "max_attempts", "generation", "source", "params", "schedule_id"),
)
ATTEMPT_FIELDS = ("id", "queue_id", "run_id", "generation", "outcome", "error")


@dataclass(frozen=True)
class Row:
    """A row at the end."""

    id: int
    status: str
    report_id: int
    modifier_id: int
    trigger_time: datetime
    error: str
    result: Any
    idempotency_key: str | None
    attempt: int
    max_attempts: int
    generation: int
    source: str
    params: Any
    schedule_id: int | None


@dataclass(frozen=True)
class Attempt:
    """One start of a row."""

    id: int
    queue_id: int
    run_id: str
    generation: int
    """Of the launch."""
    outcome: str
    error: str


@dataclass(frozen=True)
class Wrong:
    """Something that is wrong; `row` is None if it is not about one row."""

    kind: str
    row: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.row is None else f"{self.kind}: row {self.row} {self.text}"


@dataclass
class Work:
    """The work of one run for one row; busy in `parts`, which leave out the time in which its process was frozen."""

    row: int
    run: str
    begin: float
    end: float = float("inf")
    outcome: str = "open"
    frozen: bool = False

    parts: tuple[tuple[float, float], ...] = ()


def judge(
    lines: Sequence[Line], rows: Sequence[Row], attempts: Sequence[Attempt], instant: Callable[[float], datetime]
) -> list[Wrong]:
    """Everything that is wrong, the worst first."""
    return _Judge(lines, rows, attempts, instant).found()


class _Judge:
    def __init__(
        self,
        lines: Sequence[Line],
        rows: Sequence[Row],
        attempts: Sequence[Attempt],
        instant: Callable[[float], datetime],
    ) -> None:
        self._lines = lines
        self._instant = instant
        self._end = max((float(line["t"]) for line in lines), default=0.0)
        self._rows = {row.id: row for row in rows}
        self._attempts: dict[int, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            self._attempts[attempt.queue_id].append(attempt)
        self._of_kind: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            self._of_kind[line["kind"]].append(line)
        self._deaths = {line["run"]: float(line["t"]) for line in reversed(self._of_kind["death"])}
        self._works = works(lines)
        self._by_row: dict[int, list[Work]] = defaultdict(list)
        for work in self._works:
            self._by_row[work.row].append(work)
        self._troubled = {line["run"] for line in self._of_kind["fault"] if line.get("run")}
        self._wrong: list[Wrong] = []

    def found(self) -> list[Wrong]:
        """Everything that is wrong."""
        self._requests()
        for row in self._rows.values():
            self._end_of(row)
            self._successes(row)
            self._overlaps(self._by_row[row.id], row.id, "")
            self._charges(row)
            self._reasons(row)
        self._limited_schedules()
        self._firings()
        for line in self._of_kind["broken"]:
            self._add(SILENT, None, f"an error that nobody expects: {line['text']}")
        for pk in self._by_row.keys() - self._rows.keys():
            self._add(LOST, pk, "was worked on and has disappeared")
        return self._wrong

    def _add(self, kind: str, row: int | None, text: str) -> None:
        self._wrong.append(Wrong(kind, row, text))

    # Rows

    def _requests(self) -> None:
        """Accepted requests have rows, and rows have causes."""
        for line in self._of_kind["requested"]:
            row = self._rows.get(line["row"])
            if row is None or row.idempotency_key != line["key"]:
                self._add(LOST, line["row"], f"was accepted under the key {line['key']!r} and is not there")

    def _end_of(self, row: Row) -> None:
        if row.status not in FINAL:
            self._add(STUCK, row.id, f"is still {row.status}")
            return
        if row.status == "cancelled" and not self._may_be_cancelled(row):
            self._add(LOST, row.id, "is cancelled, and nobody asked for it")
        if row.status == "skipped" and row.source != "schedule":
            self._add(LOST, row.id, "is skipped, and no schedule made it")

    def _may_be_cancelled(self, row: Row) -> bool:
        asked = any(line["row"] == row.id for line in self._of_kind["cancel"])
        runs = {attempt.run_id for attempt in self._attempts[row.id]}
        return asked or any(line["run"] in runs for line in self._of_kind["terminated"])

    def _successes(self, row: Row) -> None:
        made = {work.run: work for work in self._by_row[row.id]}
        succeeded = [one for one in self._attempts[row.id] if one.outcome == "succeeded"]
        asked = 1 + sum(line["row"] == row.id for line in self._of_kind["cycle"])
        if len(succeeded) > asked:
            runs = ", ".join(one.run_id for one in succeeded)
            self._add(TWICE, row.id, f"succeeded {len(succeeded)} times where {asked} were asked for: {runs}")
        for one in succeeded:
            work = made.get(one.run_id)
            if work is None or work.outcome != "ok":
                self._add(LOST, row.id, f"is a success of run {one.run_id}, which did not make the report")
        if row.status == "succeeded" and not succeeded:
            self._add(LOST, row.id, "succeeded without an attempt that did")
        won = {one.run_id for one in succeeded}
        for line in self._of_kind["accepted"]:
            if line["row"] == row.id and line["run"] not in won:
                self._add(LOST, row.id, f"has lost the success of run {line['run']}, which was accepted")
        for work in made.values():
            if work.outcome == "ok" and work.run not in won and not self._excused(work, row):
                self._add(LOST, row.id, f"was made by run {work.run}, whose success was not accepted")

    def _excused(self, work: Work, row: Row) -> bool:
        """Whether something happened that can have cost the work its acceptance."""
        return (
            work.run in self._troubled
            or work.run in self._deaths
            or any(line["row"] == row.id for line in self._of_kind["cancel"])
            or any(line["kind"] == "fault" for line in self._lines if work.begin - 60 <= line["t"] <= work.end + 330)
        )

    def _overlaps(self, done: Sequence[Work], row: int | None, which: str) -> None:
        for place, one in enumerate(done):
            for other in done[place + 1 :]:
                together = max((min(a[1], b[1]) - max(a[0], b[0]) for a in one.parts for b in other.parts), default=0.0)
                if together > 0:
                    text = f"{which}runs {one.run} (row {one.row}) and {other.run} (row {other.row}) worked together"
                    self._add(TWICE, row, f"{text} for {together:.3f} s, from {max(one.begin, other.begin):.3f} s on")

    def _charges(self, row: Row) -> None:
        """An attempt is used up by the work's own failure, or by the run that died or fell silent with it in hand."""
        cycles = [float(line["t"]) for line in self._of_kind["cycle"] if line["row"] == row.id]
        runs = [attempt.run_id for attempt in self._attempts[row.id]]
        explained = 0
        let_off: Attempt | None = None
        for attempt in self._attempts[row.id]:
            how = self._explains(row.id, attempt, let_off)
            explained += how == "charged"
            let_off = attempt if how == "let off" else let_off
        if row.attempt > explained and not cycles and runs:
            self._add(LOST, row.id, f"used {row.attempt} attempts, of which {explained} had a cause")
        good = sum(attempt.outcome == "succeeded" for attempt in self._attempts[row.id])
        if row.status == "failed" and explained == good and not self._never_launched(row.id):
            self._add(LOST, row.id, f"has failed, and none of its works did: {row.error[:100]!r}")

    def _never_launched(self, pk: int) -> bool:
        """Whether its launches came to nothing again and again, or a stranger brought a counter to its bound."""
        failed = sum(line["row"] == pk for line in self._of_kind["launch failed"])
        return failed >= LAUNCHES or any(line.get("row") == pk and "bound" in line for line in self._of_kind["fault"])

    def _explains(self, pk: int, attempt: Attempt, let_off: Attempt | None) -> str:
        if attempt.outcome in ("succeeded", "cancelled", "failed"):
            return "charged"
        work = next((work for work in self._by_row[pk] if work.run == attempt.run_id), None)
        if attempt.outcome == "released":
            return "charged" if work is not None else ""
        # A work that ended well was made, and its run fell silent before that was accepted.
        if work is not None or self._in_hand(attempt.run_id) == pk:
            return "charged"
        # Nobody is let off twice. After that a row goes alone, but a run that was launched before may have others too.
        return "charged" if let_off is not None and attempt.generation <= let_off.generation else "let off"

    def _in_hand(self, run: str) -> int | None:
        """The first row that a run had started and that has no good end."""
        mine = [one for some in self._attempts.values() for one in some if one.run_id == run]
        cut = [one for one in sorted(mine, key=lambda one: one.id) if one.outcome in ("", "expired")]
        return cut[0].queue_id if cut else None

    def _reasons(self, row: Row) -> None:
        if row.status in ("failed", "skipped") and not row.error:
            self._add(SILENT, row.id, f"is {row.status}, and nothing says why")
        known = {one.run_id for one in self._attempts[row.id]}
        for work in self._by_row[row.id]:
            if work.run not in known:
                self._add(SILENT, row.id, f"was worked on by run {work.run}, of which there is no attempt")
        for one in self._attempts[row.id]:
            if row.status in FINAL and not one.outcome:
                self._add(SILENT, row.id, f"has ended, and the attempt of run {one.run_id} has not")
            if one.outcome in ("failed", "expired") and not one.error:
                self._add(SILENT, row.id, f"has an attempt of run {one.run_id} that {one.outcome}, without a reason")

    # Schedules

    def _limited_schedules(self) -> None:
        """While a schedule limits overlaps, no report of it is started and worked on beside another one.

        A row that a run had started before that stays with its run.
        """
        by_schedule: dict[int, list[Work]] = defaultdict(list)
        for work in self._works:
            row = self._rows.get(work.row)
            if row is not None and row.report_id == SCHEDULED_REPORT:
                by_schedule[row.modifier_id].append(work)
        for number, done in by_schedule.items():
            limits = self._limits(number)
            for place, one in enumerate(done):
                for other in done[place + 1 :]:
                    later = max(self._started(one), self._started(other))
                    if one.row != other.row and any(since <= later < until for since, until in limits):
                        self._overlaps([one, other], None, f"schedule {number}: ")

    def _started(self, work: Work) -> float:
        """When its run became the row's owner, as far as the web app's answers tell."""
        lines = [line for line in self._of_kind["started"] if (line["row"], line["run"]) == (work.row, work.run)]
        return min((float(line["t"]) for line in lines), default=work.begin)

    def _limits(self, number: int) -> list[tuple[float, float]]:
        """When the schedule certainly limited overlaps. After a deletion its rows keep to what was said last."""
        found = []
        since: float | None = None
        ids = {line["id"] for line in self._of_kind["schedule"] if line.get("modifier_id") == number}
        for line in self._of_kind["schedule"]:
            if line["id"] not in ids or line.get("deleted"):
                continue
            limits = line["sure"] and line["overlap"] != "allow"
            if limits and since is None:
                since = float(line["t"])
            elif not limits and since is not None:
                found.append((since, float(line["t"])))
                since = None
        return found if since is None else [*found, (since, float("inf"))]

    def _firings(self) -> None:
        """Every firing is a row, queued or skipped, and every scheduled row a firing or asked for by a person."""
        asked = {line["row"] for line in self._of_kind["run now"]}
        ids = {line["id"]: line["modifier_id"] for line in self._of_kind["schedule"] if "modifier_id" in line}
        for pk, number in ids.items():
            known = (SCHEDULED_REPORT, number)
            mine = [row for row in self._rows.values() if (row.report_id, row.modifier_id) == known]
            settled, possible = self._due(pk)
            self._holidays(pk, number, mine, possible)
            noted = [row for row in mine if row.id not in asked]
            fired = {row.trigger_time for row in noted}
            covered = [(row.result["first"], row.result["last"]) for row in noted if _counts(row)]
            spans = [(datetime.fromisoformat(first), datetime.fromisoformat(last)) for first, last in covered]
            for due in sorted(settled):
                if due not in fired and not any(first <= due <= last for first, last in spans):
                    if self._closed(number, due, any):
                        continue  # it is noted when the calendar opens again
                    self._add(LOST, None, f"the firing of schedule {number} at {due:%H:%M} is in no row")
            for row in noted:
                if row.status != "skipped" and row.source == "schedule" and self._closed(number, row.trigger_time, all):
                    text = f"is a firing of schedule {number} at {row.trigger_time:%H:%M}, when its calendar is closed"
                    self._add(TWICE, row.id, text)
                if row.trigger_time not in possible and row.source == "schedule":
                    text = f"is a firing of schedule {number} at {row.trigger_time:%H:%M:%S.%f}, when it does not fire"
                    self._add(TWICE, row.id, text)

    def _holidays(self, pk: int, number: int, rows: Sequence[Row], possible: set[datetime]) -> None:
        """A day that is closed when its firing's earlier time has passed leaves a row that says so."""
        for line in self._of_kind["holiday"]:
            if line["schedule"] != pk:
                continue
            moved = 60.0 * line["minute"]
            lost = self._instant(moved) + timedelta(days=1)
            possible.add(lost)
            ends = [float(one["t"]) for one in self._of_kind["schedule"] if one["id"] == pk and not one.get("enabled")]
            end = min(ends, default=float("inf"))
            passes = [one for one in self._of_kind["pass"] if one["whole"]]
            fired_before = any(one["since"] > moved and one["t"] < line["t"] for one in passes)
            passed_since = any(one["since"] > line["t"] and one["t"] < end for one in passes)
            if fired_before and passed_since and lost not in {row.trigger_time for row in rows}:
                self._add(LOST, None, f"the firing of schedule {number} at {lost:%d %B %H:%M} is in no row")

    def _closed(self, number: int, due: datetime, how: Callable[[Iterable[bool]], bool]) -> bool:
        """Whether one of its calendar's versions closes the instant, or all of them do."""
        versions = [line["closed"] for line in self._of_kind["calendar"] if line["modifier_id"] == number]
        minute = 60 * due.hour + due.minute
        closes = [any(first <= minute < last for first, last in closed) for closed in versions]
        return bool(closes) and how(closes)

    def _due(self, pk: int) -> tuple[set[datetime], set[datetime]]:
        """The instants whose firings must be rows, and those whose may be."""
        must: set[datetime] = set()
        may: set[datetime] = set()
        versions = [line for line in self._of_kind["schedule"] if line["id"] == pk]
        for place, line in enumerate(versions):
            if line.get("deleted") or not line["sure"]:
                continue
            rest = versions[place + 1 :]
            # A change of the overlap policy alone leaves the plan as it is.
            changed = next((one for one in rest if not one["sure"] or _timing(one) != _timing(line)), None)
            until = self._end + 1 if changed is None else float(changed["t"])
            if place and versions[place - 1]["sure"] and _timing(versions[place - 1]) == _timing(line):
                continue
            if not line["enabled"]:
                continue
            passes = [one["since"] for one in self._of_kind["pass"] if one["whole"] and one["t"] < until]
            sure_until = max(passes, default=0)
            for due in _minutes(line["cron"], self._instant(float(line["t"])), self._instant(until)):
                may.add(due)
                if due <= self._instant(sure_until):
                    must.add(due)
        # What an uncertain change has done is not known.
        for line in versions:
            if not line["sure"]:
                after = next((float(one["t"]) for one in versions if one["sure"] and one["t"] > line["t"]), self._end)
                span = (self._instant(float(line["t"]) - 60), self._instant(after))
                may |= set(_minutes("* * * * *", *span))
                must = {due for due in must if not span[0] <= due <= span[1]}
        return must, may


def works(lines: Iterable[Line]) -> list[Work]:
    """Every work, in the order of their begins."""
    found: dict[tuple[str, int], Work] = {}
    freezes: dict[str, list[list[float]]] = defaultdict(list)
    for line in lines:
        at, run = float(line["t"]), line.get("run")
        if line["kind"] == "begin":
            found[run, line["row"]] = Work(line["row"], run, at)
        elif line["kind"] == "end" and (run, line["row"]) in found:
            work = found[run, line["row"]]
            work.end, work.outcome = at, line["outcome"]
        elif line["kind"] == "death":
            for work in found.values():
                if work.run == run and work.outcome == "open":
                    work.end, work.outcome = at, "died"
        elif line["kind"] == "stop":
            freezes[run].append([at, float("inf")])
        elif line["kind"] == "cont" and freezes[run]:
            freezes[run][-1][1] = at + WAKE_SECONDS
    for work in found.values():
        parts = [(work.begin, work.end)]
        for stop, cont in freezes[work.run]:
            parts = [
                part
                for begin, end in parts
                for part in ((begin, min(end, stop)), (max(begin, cont), end))
                if part[0] < part[1]
            ]
            work.frozen = work.frozen or (stop < work.end and cont > work.begin)
        work.parts = tuple(parts)
    return list(found.values())


def _counts(row: Row) -> bool:
    return row.status == "skipped" and isinstance(row.result, dict) and "first" in row.result


def _timing(line: Line) -> tuple[Any, ...]:
    return line.get("cron"), line.get("enabled"), line.get("deleted")


def _minutes(cron: str, after: datetime, until: datetime) -> Iterable[datetime]:
    """The instants of `* * * * *`, `*/N * * * *` or `M H * * *` in (after, until]."""
    minute, hour = cron.split()[:2]
    step = 1 if minute == "*" else int(minute.removeprefix("*/"))
    at = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while at <= until:
        if (at.hour, at.minute) == (int(hour), int(minute)) if hour != "*" else at.minute % step == 0:
            yield at
        at += timedelta(minutes=1)
