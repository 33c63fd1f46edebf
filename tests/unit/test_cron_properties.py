"""`reportcron` with expressions and instants at random: against a minute walk, itself (R3), and cronsim."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reportcron as cron
from tests.unit.minute_walk import HOUR, MINUTE, Job, at, changes, jumping, walk, watched

MONTHS = {n: f"{datetime(2000, n, 1):%b}" for n in range(1, 13)}  # noqa: DTZ001
WEEKDAYS = {n: f"{datetime(2023, 1, 1 + n):%a}" for n in range(7)}  # noqa: DTZ001


@st.composite
def fields(draw, cycle: range, names: dict[int, str], around: bool, steps: bool) -> tuple[str, frozenset[int]]:
    """A field's text and its values; ranges may go `around` the end, `steps` may go with anything."""
    texts: list[str] = []
    values: set[int] = set()
    if draw(st.integers(0, 2)) == 0:
        step = draw(st.integers(1, len(cycle) + 3)) if steps else 1
        texts, values = ["*" if step == 1 else f"*/{step}"], set(cycle[::step])
        if not around or draw(st.integers(0, 2)):
            return texts[0], frozenset(values)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        start, step = draw(st.sampled_from(cycle)), draw(st.sampled_from([1, 1, 2, 3, 7]))
        kind = draw(st.sampled_from(["one", "one", "range", "from"] if steps else ["one", "range"]))
        turned = [*cycle[cycle.index(start) :], *(cycle[: cycle.index(start)] if around else ())]
        taken = {
            "one": turned[:1],
            "range": turned[: draw(st.integers(1, len(turned)))],
            "from": list(cycle[cycle.index(start) :]),
        }[kind]
        first, last = (draw(st.sampled_from([str(n), names.get(n, str(n))])) for n in (start, taken[-1]))
        step = step if around or len(taken) > 1 else 1
        suffix = f"/{step}" if step > 1 or kind == "from" else ""
        texts.append({"one": first, "range": f"{first}-{last}{suffix}", "from": f"{first}{suffix}"}[kind])
        values.update(taken[:1] if kind == "one" else taken[::step])
    # In lists, too: `*/100,1-7`, and `1-7,*/100`, where the first character is no *.
    texts = draw(st.permutations(texts))
    return ",".join(texts), frozenset(values)


@st.composite
def jobs(draw, *, for_cronsim: bool = False) -> Job:
    def field(low: int, high: int, names: dict[int, str] | None = None) -> tuple[str, frozenset[int]]:
        # cronsim differs in */n and a/n of the day fields and in a-a/n, and has no ranges around the end.
        steps = not (for_cronsim and high in (31, 6))
        return draw(fields(range(low, high + 1), names or {}, not for_cronsim, steps))

    def often_any(low: int, high: int, names: dict[int, str] | None = None) -> tuple[str, frozenset[int]]:
        return ("*", frozenset(range(low, high + 1))) if draw(st.booleans()) else field(low, high, names)

    drawn = [field(0, 59), field(0, 23), often_any(1, 31), often_any(1, 12, MONTHS), often_any(0, 6, WEEKDAYS)]
    return Job(*zip(*drawn, strict=True))


def fires(job: Job) -> bool:
    """Whether it ever does: by the weekday, or if a month has the day. If not, it must be refused."""
    longest = max(calendar.monthrange(2024, month)[1] for month in job.values[3])
    either = "*" not in (job.texts[2][0], job.texts[4][0])
    if either or min(job.values[2]) <= longest:
        return True
    with pytest.raises(cron.InvalidExpression, match="day of month field"):
        cron.validate(job.expression)
    return False


@st.composite
def windows(draw) -> tuple[str, datetime, int]:
    """A zone and a window of some hours around one of its changes: start, and length in minutes."""
    name = draw(st.sampled_from(jumping()))
    change = draw(st.sampled_from(changes(name)))
    return name, change - draw(st.sampled_from([1, 2, 16])) * HOUR, draw(st.sampled_from([180, 360, 1800]))


@settings(max_examples=100, deadline=None)
@given(job=jobs(), window=windows())
def test_agrees_with_a_walk_through_every_minute(job, window):
    assume(fires(job))
    name, start, minutes = window
    expected = walk(job, watched(name, start, minutes))
    end = start + (minutes - 1) * MINUTE
    assert list(cron.between(job.expression, name, start - MINUTE, end)) == expected


@settings(max_examples=80, deadline=None)
@given(job=jobs(), window=windows(), data=st.data())
def test_a_fresh_evaluation_agrees_with_a_continued_one(job, window, data):
    assume(fires(job))
    name, start, minutes = window
    end = start + minutes * MINUTE
    middles = st.integers(0, minutes * 60_000_000) | st.integers(0, minutes).map(lambda n: n * 60_000_000)
    middle = start + timedelta(microseconds=data.draw(middles))
    firings = list(cron.between(job.expression, name, start, end))
    assert all(earlier < later for earlier, later in pairwise(firings))
    if firings and data.draw(st.booleans()):
        middle = data.draw(st.sampled_from(firings))
    before, after = ([each for each in firings if (each > middle) is late] for late in (False, True))
    assert list(cron.between(job.expression, name, start, middle)) == before
    assert list(cron.between(job.expression, name, middle, end)) == after
    following = cron.next_after(job.expression, name, middle)
    previous = cron.previous_before(job.expression, name, middle)
    assert previous < middle < following
    assert following == after[0] if after else following > end
    passed = [each for each in before if each < middle]
    assert previous == passed[-1] if passed else previous <= start
    assert list(cron.between(job.expression, name, previous, following)) in ([following], [middle, following])


# Zones of whole hours, without steps in the day fields, where cronsim follows Debian too.
WHOLE_HOURS = ["UTC", "America/New_York", "Europe/London", "Europe/Paris", "Asia/Tokyo", "Australia/Sydney"]


@st.composite
def noons(draw) -> datetime:
    """Some noon, mostly before a change. Noon, for in a repeated hour cronsim forgets which copy it is in."""
    name = draw(st.sampled_from(WHOLE_HOURS))
    change = draw(st.sampled_from(changes(name) or [at("2026-01-01 00:00")]))
    day = change - timedelta(days=draw(st.sampled_from([1, 1, 2, 30, 150])))
    return day.astimezone(ZoneInfo(name)).replace(hour=12, minute=0)


@settings(max_examples=100, deadline=None)
@given(job=jobs(for_cronsim=True), start=noons())
def test_agrees_with_cronsim(job, start):
    assume(fires(job))
    theirs = [each.astimezone(UTC) for each in islice(CronSim(job.expression, start), 100)]
    assert list(islice(cron.between(job.expression, start.tzinfo.key, start, cron.LAST), 100)) == theirs
