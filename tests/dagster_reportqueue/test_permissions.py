"""docs/migration.md says what the user of each pattern may do: with exactly that, its sensor and its runs work."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.scheduler.instigation import TickStatus
from django.contrib.auth.models import Permission, User

from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import build_row
from tests.dagster_reportqueue.daemon import daemon

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
SENSORS = {
    Pattern.CRON: "cron_sensor",
    Pattern.ASSET: "smart_sensor",
    Pattern.QUEUE: "report_sensor",
    Pattern.POLLING: "polling_sensor",
}


def documented(pattern: Pattern) -> list[str]:
    """The permissions of the pattern's line, without those for repair."""
    if pattern is Pattern.ASSET:
        assert re.search(r"^\| `asset` \|[^|]*\| the same \|", PAGE, re.MULTILINE)
        pattern = Pattern.CRON
    (cell,) = re.findall(rf"^\| `{pattern}` \|[^|]*\|([^|]*)\|", PAGE, re.MULTILINE)
    return re.findall(r"`(\w+)`", cell.partition("for repair")[0])


@pytest.mark.parametrize("pattern", list(Pattern))
def test_what_the_page_grants_is_enough(instance: DagsterInstance, pattern: Pattern):
    user = User.objects.get(username="dagster")
    user.user_permissions.set(Permission.objects.filter(codename__in=documented(pattern)))
    now = database_now()
    if pattern in (Pattern.CRON, Pattern.ASSET):
        ReportSchedule(report_id=1, modifier_id=2, cron="* * * * *").save()
        ReportSchedule.objects.update(timing_set_at=now - timedelta(hours=1))
        TriggerPeriod.objects.create(pattern=pattern, since=now - timedelta(minutes=1), until=now)
    else:
        build_row()
    with daemon(instance, SENSORS[pattern]) as sensor:
        for _ in range(2):
            tick = sensor.tick()
            assert tick.status != TickStatus.FAILURE, tick.error
    assert ReportQueue.objects.get().status == Status.SUCCEEDED
    assert [run.status for run in instance.get_runs()] == [DagsterRunStatus.SUCCESS]
