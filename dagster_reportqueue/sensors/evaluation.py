"""What the sensors share that evaluate the schedules themselves: from a plan and a cursor to run requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from dagster import RunRequest, SensorEvaluationContext, SensorResult, SkipReason

from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.sensors.firings import Clockwork, DueFiring, Position
from dagster_reportqueue.sensors.ticks import check_limit, cursor_field, launch_tags, report_tags
from dagster_reportqueue.tickets import FiringTicket

CATCH_UP_SECONDS = 86_400
"""How far back a sensor that comes late makes up for what it missed."""
MAX_CATCH_UP_SECONDS = 31 * 86_400


@dataclass
class Evaluator:
    """Emits a plan's firings, `limit` (1 to `MAX_BATCH`) a tick, from where the cursor stands."""

    limit: int
    catch_up_seconds: int
    _clockwork: Clockwork = field(default_factory=Clockwork)

    def __post_init__(self) -> None:
        check_limit(self.limit)
        if not 60 <= self.catch_up_seconds <= MAX_CATCH_UP_SECONDS:
            raise ValueError(
                f"catch_up_seconds must be from 60 to {MAX_CATCH_UP_SECONDS:,}; it is {self.catch_up_seconds}."
            )

    def tick(
        self, context: SensorEvaluationContext, plan: Plan, *, kept: Mapping[str, Any], **result: Any
    ) -> SensorResult:
        """The firings that are due. The cursor holds how far they went, and what else the sensor wants `kept`.

        Dagster stores the requests together with the cursor: a tick that dies makes the same ones again.
        """
        now = datetime.now(UTC)
        made = self._made(context, plan, now)
        firings = list(islice(self._clockwork.due(plan, made, now), self.limit))
        # A full tick may not have got to the end of what is due.
        position = firings[-1].position if len(firings) == self.limit else max(made, Position(now))
        return SensorResult(
            run_requests=[_request(firing) for firing in firings],
            skip_reason=None if firings else SkipReason(f"No report of {len(plan.reports):,} is due."),
            cursor=json.dumps({"made": position.json(), **kept}),
            **result,
        )

    def _made(self, context: SensorEvaluationContext, plan: Plan, now: datetime) -> Position:
        oldest = now - timedelta(seconds=self.catch_up_seconds)
        made: Position | None = cursor_field(context, "made", Position.parse)
        if made is None:
            # From the first hand-over on, if there was one: what came before it is known to have been made by others.
            begun = [period.since for period in plan.periods if period.since is not None and period.since <= now]
            made = Position(max(min(begun), oldest) - timedelta(microseconds=1) if begun else now)
        if made.instant < oldest:
            context.log.warning(
                f"Nothing was fired since {made.instant:%Y-%m-%d %H:%M:%S}Z; what was due before "
                f"{oldest:%Y-%m-%d %H:%M:%S}Z is not made up for (catch_up_seconds)."
            )
            made = Position(oldest)
        return made


def _request(firing: DueFiring) -> RunRequest:
    report = firing.report
    ticket = FiringTicket(report.schedule_id, firing.instant)
    return RunRequest(
        run_key=firing.run_key,
        run_config=ticket.run_config(report.report_id, report.modifier_id),
        tags={
            **ticket.tags(),
            **report_tags(report.report_id, report.modifier_id),
            **launch_tags(report.priority),
        },
    )
