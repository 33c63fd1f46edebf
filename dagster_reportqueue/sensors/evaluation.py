"""Shared by the sensors that evaluate schedules themselves: from a plan and a cursor to run requests."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from dagster import RunRequest, SensorEvaluationContext, SensorResult, SkipReason

from dagster_reportqueue.arguments import check_number
from dagster_reportqueue.client.plan import Plan, PlanReading
from dagster_reportqueue.sensors.firings import DueFiring, DueFirings, Position, Start
from dagster_reportqueue.sensors.ticks import check_limit, cursor_field, launch_tags, report_tags
from dagster_reportqueue.tickets import FiringTicket

CATCH_UP_SECONDS = 86_400
"""A late sensor launches missed firings up to this age; older ones are left out."""
MAX_CATCH_UP_SECONDS = 31 * 86_400
COMMIT_SECONDS = 3_600.0
"""How long a transaction that changes schedules may take until it is visible."""
UNKNOWN_SECONDS = 60.0
"""The same if the plan of the last tick is not in memory: every change of so recent a time may be new."""
PLANS = 4
"""Earlier plans that are kept, to find out what is new in the next one."""


@dataclass
class Evaluator:
    """Requests runs for a plan's firings after the cursor, at most `limit` (1 to `MAX_BATCH`) in a tick.

    All instants are the database's: a clock of Dagster's may be minutes off.
    """

    limit: int
    catch_up_seconds: int
    _firings: DueFirings = field(default_factory=DueFirings)
    _plans: OrderedDict[str, Plan] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        check_limit(self.limit)
        check_number("catch_up_seconds", self.catch_up_seconds, 60, MAX_CATCH_UP_SECONDS)

    def tick(
        self, context: SensorEvaluationContext, reading: PlanReading, *, kept: Mapping[str, Any], **result: Any
    ) -> SensorResult:
        """Request runs for the due firings. The cursor stores how far they went, and the fields in `kept`.

        Dagster stores the requests together with the cursor: after a tick that died, the next one makes the same
        requests.
        """
        plan, now = reading.plan, reading.now
        start = self._start(context, plan, now)
        firings = list(islice(self._firings.due(plan, start, now), self.limit))
        # With a full tick, more firings may be due.
        position = firings[-1].position if len(firings) == self.limit else max(start.made, Position(now))
        self._plans[plan.version] = plan
        self._plans.move_to_end(plan.version)
        while len(self._plans) > PLANS:
            self._plans.popitem(last=False)
        return SensorResult(
            run_requests=[_request(firing) for firing in firings],
            skip_reason=None if firings else SkipReason(f"None of {len(plan.schedules):,} schedules is due."),
            cursor=json.dumps({"made": position.json(), "plan": plan.version, **kept}),
            **result,
        )

    def is_due(self, context: SensorEvaluationContext, plan: Plan, now: datetime) -> bool:
        """Whether a tick at `now` would request a run. True in the first tick."""
        made: Position | None = cursor_field(context, "made", Position.parse)
        if made is None:
            return True
        return next(self._firings.due(plan, self._with_news(context, plan, made), now), None) is not None

    def _start(self, context: SensorEvaluationContext, plan: Plan, now: datetime) -> Start:
        oldest = now - timedelta(seconds=self.catch_up_seconds)
        made: Position | None = cursor_field(context, "made", Position.parse)
        if made is None:
            # Start at the first switch to this pattern, if there was one: other patterns made the firings before it.
            begun = [period.since for period in plan.periods if period.since is not None and period.since <= now]
            return Start(Position(max(min(begun), oldest) - timedelta(microseconds=1) if begun else now))
        if made.instant < oldest:
            context.log.warning(
                f"Nothing was fired since {made.instant:%Y-%m-%d %H:%M:%S}Z; firings before "
                f"{oldest:%Y-%m-%d %H:%M:%S}Z are too old to make up for (catch_up_seconds)."
            )
            made = Position(oldest)
        return self._with_news(context, plan, made)

    def _with_news(self, context: SensorEvaluationContext, plan: Plan, made: Position) -> Start:
        """What is new in the plan starts at its own beginning, also if that lies before the position.

        A change counts from an instant shortly before its commit. A tick in between does not see the change, and goes
        on to a later instant. Firings that are requested again have run keys that Dagster knows.
        """
        version = cursor_field(context, "plan", str)
        if version == plan.version:
            return Start(made)
        known = self._plans.get(version)
        recent = made.instant - timedelta(seconds=UNKNOWN_SECONDS if known is None else COMMIT_SECONDS)
        schedules = {(one.schedule_id, one.fires_after) for one in plan.schedules if recent <= one.fires_after}
        periods = {one.since for one in plan.periods if one.since is not None and recent <= one.since}
        if known is not None:
            schedules -= {(one.schedule_id, one.fires_after) for one in known.schedules}
            periods -= {one.since for one in known.periods if one.since is not None}
        return Start(made, frozenset(schedule_id for schedule_id, _ in schedules), frozenset(periods))


def _request(firing: DueFiring) -> RunRequest:
    schedule = firing.schedule
    ticket = FiringTicket(schedule.schedule_id, firing.instant)
    return RunRequest(
        run_key=firing.run_key,
        run_config=ticket.run_config(schedule.report_id, schedule.modifier_id),
        tags={
            **ticket.tags(),
            **report_tags([schedule.report_id], [schedule.modifier_id], [schedule.schedule_id]),
            **launch_tags(schedule.priority),
        },
    )
