"""Shared by the sensors that evaluate schedules themselves: from a plan and a cursor to run requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from dagster import RunRequest, SensorEvaluationContext, SensorResult, SkipReason

from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.sensors.firings import DueFiring, DueFirings, Position
from dagster_reportqueue.sensors.ticks import check_limit, cursor_field, launch_tags, report_tags
from dagster_reportqueue.tickets import FiringTicket

CATCH_UP_SECONDS = 86_400
"""A late sensor launches missed firings up to this age; older ones are left out."""
MAX_CATCH_UP_SECONDS = 31 * 86_400


@dataclass
class Evaluator:
    """Requests runs for a plan's firings after the cursor, at most `limit` (1 to `MAX_BATCH`) in a tick."""

    limit: int
    catch_up_seconds: int
    _firings: DueFirings = field(default_factory=DueFirings)

    def __post_init__(self) -> None:
        check_limit(self.limit)
        if not 60 <= self.catch_up_seconds <= MAX_CATCH_UP_SECONDS:
            raise ValueError(
                f"catch_up_seconds must be from 60 to {MAX_CATCH_UP_SECONDS:,}; it is {self.catch_up_seconds}."
            )

    def tick(
        self, context: SensorEvaluationContext, plan: Plan, *, kept: Mapping[str, Any], **result: Any
    ) -> SensorResult:
        """Request runs for the due firings. The cursor stores how far they went, and the fields in `kept`.

        Dagster stores the requests together with the cursor: after a tick that died, the next one makes the same
        requests.
        """
        now = datetime.now(UTC)
        made = self._made(context, plan, now)
        firings = list(islice(self._firings.due(plan, made, now), self.limit))
        # With a full tick, more firings may be due.
        position = firings[-1].position if len(firings) == self.limit else max(made, Position(now))
        return SensorResult(
            run_requests=[_request(firing) for firing in firings],
            skip_reason=None if firings else SkipReason(f"None of {len(plan.schedules):,} schedules is due."),
            cursor=json.dumps({"made": position.json(), **kept}),
            **result,
        )

    def _made(self, context: SensorEvaluationContext, plan: Plan, now: datetime) -> Position:
        oldest = now - timedelta(seconds=self.catch_up_seconds)
        made: Position | None = cursor_field(context, "made", Position.parse)
        if made is None:
            # Start at the first switch to this pattern, if there was one: other patterns made the firings before it.
            begun = [period.since for period in plan.periods if period.since is not None and period.since <= now]
            made = Position(max(min(begun), oldest) - timedelta(microseconds=1) if begun else now)
        if made.instant < oldest:
            context.log.warning(
                f"Nothing was fired since {made.instant:%Y-%m-%d %H:%M:%S}Z; firings before "
                f"{oldest:%Y-%m-%d %H:%M:%S}Z are too old to make up for (catch_up_seconds)."
            )
            made = Position(oldest)
        return made


def _request(firing: DueFiring) -> RunRequest:
    schedule = firing.schedule
    ticket = FiringTicket(schedule.schedule_id, firing.instant)
    return RunRequest(
        run_key=firing.run_key,
        run_config=ticket.run_config(schedule.report_id, schedule.modifier_id),
        tags={
            **ticket.tags(),
            **report_tags(schedule.report_id, schedule.modifier_id),
            **launch_tags(schedule.priority),
        },
    )
