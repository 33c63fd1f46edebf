"""The road between the patterns in real time: each hand-over at an instant at which everything is due, under load."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.acceptance.conftest import StartDemo
from tests.acceptance.demos import DemoProcess

pytestmark = pytest.mark.timeout(1200)
SCHEDULES = 30
ROAD = ["cron", "asset", "queue", "asset", "cron", "polling", "queue"]
"""After the queue, which begins: a demo that is asked for its sensors, too, leaves it the firings."""
MINUTE = timedelta(minutes=1)
AHEAD = timedelta(seconds=15)
"""How long before its instant a hand-over is planned: as long as everybody needs to hear of it."""
SENSORS = {
    "cron": {"report_cron_sensor"},
    "asset": {"smart_cron_sensor"},
    "polling": {"webhook_trigger_sensor"},
    "queue": {"database_queue_sensor", "database_queue_sensor_2", "database_queue_sensor_3"},
}
RUNS = """query($cursor: String) { runsOrError(limit: 500, cursor: $cursor) { ... on Runs {
  results { runId status tags { key value } runConfigYaml }
} } }"""


def full_minute(after: datetime) -> datetime:
    return after.replace(second=0, microsecond=0) + MINUTE


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def demo(start_demo: StartDemo, folder: Path) -> DemoProcess:
    demo = start_demo(folder / "road", "--pattern", "cron,asset,polling,queue")
    demo.wait_for_line("Ctrl-C stops everything")
    return demo


ISSUE = """
from django.contrib.auth.models import User
from reportqueue import tokens

print(tokens.issue(User.objects.get(username="admin"), name="test").key)
"""


def add_schedules(demo: DemoProcess) -> list[int]:
    """Schedules that are all due every minute; the demo's own fire no more."""
    token = demo.manage("shell", "-v", "0", "-c", ISSUE).strip()
    for there in demo.api("GET", "/api/schedules/", token=token).json()["schedules"]:
        demo.api("POST", f"/api/schedules/{there['schedule_id']}/pause/", {}, token=token)
    made = []
    for _ in range(SCHEDULES):
        body = {"report_id": 2, "modifier_id": 1, "cron": "* * * * *", "timezone": "UTC"}
        answer = demo.api("POST", "/api/schedules/", body, token=token)
        assert answer.status == 201, answer.body
        made.append(answer.json()["schedule_id"])
    return made


def hand_over_all_along(demo: DemoProcess) -> dict[datetime, str]:
    """Each instant from now until a minute after the last hand-over, with the pattern that it belongs to."""
    instant = full_minute(now())
    owners = {}
    owner = "queue"
    for to in [*ROAD, None]:
        at = full_minute(max(now() + AHEAD, instant))
        if to is not None:
            demo.manage("switch_pattern", "--to", to, "--at", at.isoformat())
        while instant < at:
            owners[instant] = owner
            instant += MINUTE
        demo.wait_for(f"it is {at}", lambda at=at: now() > at, 180)
        owner = to
    return owners


def rows_of(demo: DemoProcess, schedules: list[int], owners: dict[datetime, str]) -> list[tuple[Any, ...]]:
    query = """SELECT id, schedule_id, trigger_time, status, attempt FROM reportqueue_reportqueue
        WHERE schedule_id = ANY(%s) AND trigger_time = ANY(%s)"""
    with psycopg.connect(demo.stored["DATABASE_URL"], autocommit=True) as connection:
        return connection.execute(query, [schedules, list(owners)]).fetchall()


def runs_of(demo: DemoProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = demo.graphql(RUNS, cursor=found[-1]["runId"] if found else None)["runsOrError"]["results"]
        found += page
        if not page:
            return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]


def test_each_firing_is_made_once_and_by_the_pattern_that_it_belongs_to(demo: DemoProcess):
    schedules = add_schedules(demo)
    owners = hand_over_all_along(demo)
    wanted = sorted((schedule, instant) for schedule in schedules for instant in owners)

    def all_made() -> bool:
        return len([row for row in rows_of(demo, schedules, owners) if row[3] == "succeeded"]) >= len(wanted)

    demo.wait_for("every report is made", all_made, 300)
    time.sleep(10)  # for runs that nobody should have asked for
    rows = rows_of(demo, schedules, owners)
    assert sorted((schedule, instant) for _, schedule, instant, *_ in rows) == wanted
    # Polling lets a row go before its run begins.
    attempts = {(owners[instant] == "polling", status, attempt) for _, _, instant, status, attempt in rows}
    assert attempts == {(False, "succeeded", 1), (True, "succeeded", 0)}
    by_row = {pk: (schedule, instant) for pk, schedule, instant, *_ in rows}
    made: dict[tuple[int, datetime], list[str]] = {}
    for run in runs_of(demo):
        for key in firings_of(run, by_row):
            assert run["status"] == "SUCCESS"
            made.setdefault(key, []).append(run["tags"]["dagster/sensor_name"])
    assert sorted(made) == wanted
    assert {key: sensors for key, sensors in made.items() if len(sensors) > 1} == {}
    wrong = {key: sensors for key, sensors in made.items() if sensors[0] not in SENSORS[owners[key[1]]]}
    assert wrong == {}


def firings_of(run: dict[str, Any], by_row: dict[int, tuple[int, datetime]]) -> list[tuple[int, datetime]]:
    """What a run was launched for, of the test's schedules."""
    tags = run["tags"]
    if "reportqueue/trigger_time" in tags:
        key = int(tags["reportqueue/schedule_id"]), datetime.fromisoformat(tags["reportqueue/trigger_time"])
        return [key] if key in by_row.values() else []
    if "reportqueue/batch" in tags:
        config = yaml.safe_load(run["runConfigYaml"])["ops"]["report_batch"]["config"]
        rows = [int(row.partition(":")[0]) for row in config["rows"]]
    else:
        rows = [int(tags["dagster/run_key"].partition(":")[0])] if "dagster/run_key" in tags else []
    return [by_row[pk] for pk in rows if pk in by_row]
