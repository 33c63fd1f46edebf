"""Which rows a claim hands out if there are more due than it may: fair among modifiers, and within the limits.

Of each route and priority, modifiers take turns: first comes the first row of each, then the second of each. They do so
in a circle, which goes on where the last claim of this process ended. So a customer with a hundred thousand rows does
not hold up another one's row, whatever is under way. A higher priority comes before a lower one. Within a modifier the
order is that of the claim.

If enough modifiers have due rows and no limit holds, the first row of each of the next ones is the choice: the index
`reportqueue_claim_turns` leads from one modifier to the next.

Otherwise the candidates are the first due rows of the route, and the first rows of other groups: a group is a report
and a modifier at one route and priority. The index `reportqueue_claim_groups` leads from one group to the next,
whatever number of rows they have, so a claim does not read the rows of a customer or a report that is at its cap. A
claim looks at a bounded number of groups of the circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from reportqueue import bounds, locks, plans
from reportqueue.conf import conf
from reportqueue.models import ReportQueue
from reportqueue.queue import limits
from reportqueue.queue.claim_sql import DUE, FREE, OPEN, ORDER
from reportqueue.queue.fetching import cursor_for_rows
from reportqueue.queue.limits import Limits

T = TypeVar("T")
Place = TypeVar("Place", int, tuple[int, int])
"""Where in a circle something is."""
LOCK = "reportqueue:choice"
"""One claim at a time chooses: two would choose the same rows, and could go beyond a cap together."""
MORE_GROUPS = 16
"""How many more groups than rows a claim looks at."""
BLOCKED_GROUPS = 2_000
"""How many groups beside these, if their rows may not be handed out. Each costs some microseconds."""
EXACT_ROWS = 500
MAX_PLACES = 10_000
START, END = (-1, -1), (bounds.MAX_ID, bounds.MAX_ID)
"""Before the first group, and the last that there may be."""
_QUEUE = ReportQueue._meta.db_table
_places: dict[tuple[str, int], tuple[int, int]] = {}
"""The last group of each route and priority of which a claim of this process has taken a row."""


class _Candidate(NamedTuple):
    """A row that may be handed out."""

    pk: int
    route: str
    priority: int
    report_id: int
    modifier_id: int
    available_at: datetime

    @property
    def group(self) -> tuple[int, int]:
        return self.report_id, self.modifier_id


class _Group(NamedTuple):
    """The free rows of a report and a modifier, at one route and priority."""

    key: tuple[int, int]
    """The report and the modifier."""
    is_due: bool
    """Whether its first row is."""


class _Turn(NamedTuple):
    """The first free row of a modifier, at one route and priority."""

    report_id: int
    modifier_id: int
    pk: int
    is_due: bool
    is_open: bool
    """Whether it may be handed out, if it is due: it has not expired, and is not left to another pattern."""


@dataclass(frozen=True)
class Choice:
    """The rows to hand out, in the order in which they were chosen."""

    rows: list[int]
    limited: bool
    """Whether rows that are due were left, since a limit does not allow more of them, or something is paused."""


def forget_turns() -> None:
    """Let the circle begin anew, for tests that want the same order each time."""
    _places.clear()


def choose_if_free(limit: int, routes: Sequence[str] | None, only: tuple[str, int] | None) -> Choice | None:
    """The same as `choose` without limits, or None if another claim chooses now.

    Where no limit holds, a claim need not wait for another one: it takes the first rows, and the next ones are fair.
    `only` is the route and the priority of all free rows, if they have one. More than `limit` must be due.
    """
    if not locks.try_until_commit(LOCK):
        return None
    if only is not None and (rows := _next_in_circle(*only, limit)):
        return Choice(rows, limited=False)
    return _choose(limit, routes, Limits(), locking="")


def _next_in_circle(route: str, priority: int, limit: int) -> list[int]:
    """The first rows of the next modifiers, one of each: the choice if so many have due rows; otherwise none.

    It is one statement, where all other choices need several.
    """
    found: list[_Turn] = []
    for looked, turn in enumerate(_turns(route, priority, limit), start=1):
        if turn.is_due and not turn.is_open:
            return []  # a later row of it may be
        if turn.is_due:
            found.append(turn)
        if len(found) == limit:
            _remember(route, priority, (turn.report_id, turn.modifier_id))
            return [one.pk for one in found]
        if looked == limit + BLOCKED_GROUPS:
            break
    return []


def _turns(route: str, priority: int, at_once: int) -> Iterator[_Turn]:
    """The modifiers of a route and priority, in a circle that begins after the one that had its turn last."""
    _, begin = _places.get((route, priority), START)

    def step(after: int, last: int) -> list[_Turn]:
        values = {"route": route, "priority": priority, "after": after, "last": last, "at_once": at_once}
        return [_Turn(*row) for row in _read(_TURNS, **values)]

    return _circle(begin, (START[1], bounds.MAX_ID), at_once, step, attrgetter("modifier_id"))


def _circle(
    begin: Place,
    ends: tuple[Place, Place],
    at_once: int,
    step: Callable[[Place, Place], list[T]],
    place_of: Callable[[T], Place],
) -> Iterator[T]:
    """What lies along an index after `begin` up to the second of the `ends`, then from the first of them to `begin`.

    `step(after, last)` reads the next `at_once`; the step after it begins at the place of the last one.
    """
    for first, last in ((begin, ends[1]), (ends[0], begin)):
        place = first
        while place < last:
            several = step(place, last)
            yield from several
            if len(several) < at_once:
                break
            place = place_of(several[-1])


def choose(limit: int, routes: Sequence[str] | None, *, limited: bool, locking: bool = False) -> Choice:
    """The rows that a claim of these routes (None: of all) is to hand out, at most `limit`.

    It takes a lock until the end of the transaction, so that no other claim chooses meanwhile, and waits for it.
    `limited` says whether some report is limited, or something is paused. With `locking` it locks the rows that it
    looks at, and leaves out those that another transaction holds: somebody who holds the first rows must not hold up
    the others.
    """
    locks.lock_until_commit(LOCK, seconds=conf().lock_timeout_seconds)
    return _choose(limit, routes, limits.current() if limited else Limits(), LOCKING if locking else "")


def _choose(limit: int, routes: Sequence[str] | None, allowed: Limits, locking: str) -> Choice:
    if allowed.paused:
        return Choice([], limited=True)
    wanted = free_routes() if routes is None else sorted(set(routes))
    open_routes = [route for route in wanted if route not in allowed.paused_routes]
    passed_over = len(open_routes) < len(wanted)
    candidates: dict[int, _Candidate] = {}
    for route in open_routes:
        found, left = _candidates(route, limit, allowed, locking)
        candidates |= {one.pk: one for one in found}
        passed_over = passed_over or left
    chosen = _fairest(candidates.values(), limit, allowed)
    for one in chosen:
        _remember(one.route, one.priority, one.group)
    return Choice([one.pk for one in chosen], limited=passed_over or len(chosen) < min(limit, len(candidates)))


def _remember(route: str, priority: int, group: tuple[int, int]) -> None:
    if len(_places) > MAX_PLACES:
        _places.clear()
    _places[route, priority] = group


def _fairest(candidates: Collection[_Candidate], limit: int, allowed: Limits) -> list[_Candidate]:
    """The rows whose turn it is, as far as the limits allow; `allowed` counts them."""
    places: Counter[tuple[str, int, int]] = Counter()
    ranked = []
    for one in sorted(candidates, key=lambda one: (-one.priority, one.available_at, one.pk)):
        if not allowed.allows(*one.group):
            continue
        own = (one.route, one.priority, one.modifier_id)
        places[own] += 1
        had_its_turn = one.modifier_id <= _places.get((one.route, one.priority), START)[1]
        ranked.append((-one.priority, places[own], had_its_turn, one.modifier_id, one.available_at, one.pk, one))
    chosen: list[_Candidate] = []
    for *_, one in sorted(ranked):
        if len(chosen) == limit:
            break
        if allowed.allows(*one.group):
            allowed.take(*one.group)
            chosen.append(one)
    return chosen


def _candidates(route: str, limit: int, allowed: Limits, locking: str) -> tuple[list[_Candidate], bool]:
    """Rows of a route among which the fairest are, and whether due rows were passed over for a limit."""
    first = _rows(_first(locking), route=route, limit=limit)
    found = {one.pk: one for one in first if allowed.allows(*one.group)}
    passed_over = len(found) < len(first)
    if len(first) < limit:
        return list(found.values()), passed_over  # there are no others
    lowest = first[-1].priority
    # The first rows are all that there are above their lowest priority. Below it there are enough, unless limits hold.
    for priority in (one for one in _priorities(route) if one <= lowest):
        groups, blocked = _groups(route, priority, limit + MORE_GROUPS, allowed)
        passed_over = passed_over or blocked
        # All that a claim could take of each; of many groups twice the share of each, since some have fewer.
        few = len(groups) * limit <= EXACT_ROWS
        each = limit if few else min(limit, 1 + 2 * limit // max(len(groups), 1))
        while groups:
            reports, modifiers = zip(*groups, strict=True)
            values = {"route": route, "priority": priority, "reports": list(reports), "modifiers": list(modifiers)}
            rows = _rows(_of_groups(locking), **values, each=each)
            found |= {one.pk: one for one in rows}
            if _room_for(found.values(), allowed) >= limit:
                break
            several = Counter(one.group for one in rows)
            groups = [group for group in groups if several[group] == each < limit]  # those that may have more
            each = min(4 * each, limit)
        if _room_for(found.values(), allowed) >= limit:
            break
    return list(found.values()), passed_over


def _room_for(candidates: Collection[_Candidate], allowed: Limits) -> int:
    """How many of the candidates the limits allow at most."""
    groups = Counter(one.group for one in candidates)
    reports: Counter[int] = Counter()
    for (report_id, modifier_id), rows in groups.items():
        reports[report_id] += allowed.room(report_id, modifier_id, rows)
    return sum(min(rows, allowed.left.get(report_id, rows)) for report_id, rows in reports.items())


def _groups(route: str, priority: int, most: int, allowed: Limits) -> tuple[list[tuple[int, int]], bool]:
    """Groups with due rows of which some may be handed out, at most so many; whether others were passed over."""
    found: list[tuple[int, int]] = []
    of_report: Counter[int] = Counter()
    # Further groups of a report are passed over once it has enough of them: the others must be seen, too.
    over = set(allowed.blocked)
    blocked, place = False, _places.get((route, priority), START)
    for looked, group in enumerate(_walk(route, priority, place, most, over), start=1):
        place, report_id = group.key, group.key[0]
        if group.is_due and report_id not in over and allowed.allows(*group.key):
            found.append(group.key)
            of_report[report_id] += 1
            if of_report[report_id] >= allowed.left.get(report_id, most) + MORE_GROUPS:
                over.add(report_id)
        elif group.is_due:
            blocked = True
        if len(found) == most:
            break
        if looked == most + BLOCKED_GROUPS:
            if not found:
                _places[route, priority] = place  # the next claim looks at others
            break
    return found, blocked


def _walk(route: str, priority: int, begin: tuple[int, int], at_once: int, over: Collection[int]) -> Iterator[_Group]:
    """The groups of a route and priority, in a circle that begins after the group `begin` and ends with it.

    Of the reports that are `over`, which may become more meanwhile, one group stands for all that follow.
    """

    def step(after: tuple[int, int], last: tuple[int, int]) -> list[_Group]:
        own = dict(zip(("report", "modifier", "last_report", "last_modifier"), (*after, *last), strict=True))
        found = _read(_STEP, route=route, priority=priority, over=sorted(over), at_once=at_once, **own)
        return [_Group((report_id, modifier_id), is_due) for report_id, modifier_id, is_due in found]

    def place_of(group: _Group) -> tuple[int, int]:
        report_id, modifier_id = group.key
        return report_id, bounds.MAX_ID if report_id in over else modifier_id

    return _circle(begin, (START, END), at_once, step, place_of)


def _read(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with plans.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _rows(statement: str, **values: Any) -> list[_Candidate]:
    with cursor_for_rows(plans_last=True) as cursor:
        cursor.execute(statement, values)
        return [_Candidate(*row) for row in cursor.fetchall()]


def _priorities(route: str) -> list[int]:
    """The priorities at which the route has free rows, the highest first."""
    return [priority for (priority,) in _read(_PRIORITIES, route=route)]


def due_routes(seconds: float, *, besides: Collection[str] = ()) -> list[str]:
    """The routes with rows that might have been handed out for so many seconds, but for some routes."""
    return [
        route
        for route in free_routes()
        if route not in besides
        and any(_read(_DUE_FOR, route=route, priority=one, seconds=seconds) for one in _priorities(route))
    ]


def count_before(row: ReportQueue, most: int) -> int:
    """How many due rows of a row's route come before it, up to `most`: by priority, and then by how long they wait.

    Modifiers take turns, so that it may come earlier.
    """
    found = 0
    for priority in _priorities(row.route):
        if priority < row.priority or found >= most:
            break
        until = (row.available_at, row.pk) if priority == row.priority else ("infinity", 0)
        ((count,),) = _read(
            _COUNT_BEFORE, route=row.route, priority=priority, until=until[0], pk=until[1], most=most - found
        )
        found += count
    return found


def free_routes() -> list[str]:
    """The routes that have free rows."""
    return [route for (route,) in _read(_ROUTES)]


_COLUMNS = "id, route, priority, report_id, modifier_id, available_at"
LOCKING = "FOR UPDATE SKIP LOCKED"


def _first(locking: str) -> str:
    return f"""
        SELECT {_COLUMNS} FROM {_QUEUE} WHERE route = %(route)s AND {DUE} ORDER BY {ORDER} LIMIT %(limit)s {locking}
    """  # noqa: S608


def _of_groups(locking: str) -> str:
    return f"""
        SELECT own.* FROM unnest(%(reports)s::bigint[], %(modifiers)s::bigint[]) AS wanted (report, modifier)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM {_QUEUE}
            WHERE route = %(route)s AND priority = %(priority)s AND report_id = report AND modifier_id = modifier
              AND {DUE}
            ORDER BY available_at, id LIMIT %(each)s {locking}
        ) AS own
    """  # noqa: S608


# Of one priority: in the index, its rows are in the order of their instants.
_COUNT_BEFORE = f"""
SELECT count(*) FROM (
    SELECT FROM {_QUEUE}
    WHERE route = %(route)s AND priority = %(priority)s AND {DUE}
      AND (available_at, id) < (%(until)s::timestamptz, %(pk)s)
    LIMIT %(most)s
) AS earlier
"""  # noqa: S608
_DUE_FOR = f"""
SELECT FROM {_QUEUE}
WHERE route = %(route)s AND priority = %(priority)s AND {DUE}
  AND available_at <= statement_timestamp() - make_interval(secs => %(seconds)s)
LIMIT 1
"""
# A walk along an index: each step leads to the first row of the next group.
_NEXT_GROUP = f"""
SELECT report_id, modifier_id, available_at FROM {_QUEUE}
WHERE {FREE} AND route = %(route)s AND priority = %(priority)s AND (report_id, modifier_id) > ({{report}}, {{modifier}})
  AND (report_id, modifier_id) <= (%(last_report)s, %(last_modifier)s)
ORDER BY report_id, modifier_id, available_at, id LIMIT 1
"""  # noqa: S608
_STEP = f"""
WITH RECURSIVE groups AS (
    (SELECT first.*, 1 AS number FROM ({_NEXT_GROUP.format(report="%(report)s", modifier="%(modifier)s")}) AS first)
    UNION ALL
    SELECT following.*, number + 1 FROM groups, LATERAL ({
    _NEXT_GROUP.format(
        report="groups.report_id",
        modifier=f"CASE WHEN groups.report_id = ANY (%(over)s::bigint[]) THEN {bounds.MAX_ID} "
        "ELSE groups.modifier_id END",
    )
}) AS following
    WHERE number < %(at_once)s
)
SELECT report_id, modifier_id, available_at <= statement_timestamp() FROM groups ORDER BY number
"""  # noqa: S608
_NEXT_TURN = f"""
SELECT report_id, modifier_id, id, available_at, expires_at FROM {_QUEUE}
WHERE {FREE} AND route = %(route)s AND priority = %(priority)s
  AND modifier_id > {{modifier}} AND modifier_id <= %(last)s
ORDER BY modifier_id, available_at, id LIMIT 1
"""  # noqa: S608
_TURNS = f"""
WITH RECURSIVE turns AS (
    (SELECT first.*, 1 AS number FROM ({_NEXT_TURN.format(modifier="%(after)s")}) AS first)
    UNION ALL
    SELECT following.*, number + 1
    FROM turns, LATERAL ({_NEXT_TURN.format(modifier="turns.modifier_id")}) AS following
    WHERE number < %(at_once)s
)
SELECT report_id, modifier_id, id, available_at <= statement_timestamp(), {OPEN} FROM turns ORDER BY number
"""  # noqa: S608
_PRIORITIES = f"""
WITH RECURSIVE found AS (
    SELECT max(priority) AS priority FROM {_QUEUE} WHERE {FREE} AND route = %(route)s
    UNION ALL
    SELECT (SELECT max(lower.priority) FROM {_QUEUE} AS lower
            WHERE {FREE} AND route = %(route)s AND lower.priority < found.priority)
    FROM found WHERE found.priority IS NOT NULL
)
SELECT priority FROM found WHERE priority IS NOT NULL
"""  # noqa: S608
_ROUTES = f"""
WITH RECURSIVE found AS (
    SELECT min(route) AS route FROM {_QUEUE} WHERE {FREE}
    UNION ALL
    SELECT (SELECT min(further.route) FROM {_QUEUE} AS further WHERE {FREE} AND further.route > found.route)
    FROM found WHERE found.route IS NOT NULL
)
SELECT route FROM found WHERE route IS NOT NULL
"""  # noqa: S608
