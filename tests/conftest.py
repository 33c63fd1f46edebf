"""What tests of every tier share: rows consistent with their status, users with chosen permissions."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import TransactionTestCase
from rest_framework.test import APIClient

from reportqueue import catalogue, tokens
from reportqueue.models import ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.queue import choice
from reportqueue.states import FINAL, LEASED, Outcome, Status
from reportqueue.timing.policies import Overlap
from tests import emptying

RowFactory = Callable[..., ReportQueue]
ClientFactory = Callable[..., APIClient]


LONG = (
    ("tests/acceptance/test_celery_page.py", ""),
    ("tests/acceptance/test_demo_once.py", "[asset]"),
    ("tests/acceptance/test_demo_once.py", "with_celery"),
    ("tests/acceptance/test_demo_survives_kill.py", "test_minutely_schedule"),
    ("tests/acceptance/test_demo_survives_kill.py", "test_next_demo_keeps"),
    ("tests/acceptance/test_dg_project.py", ""),
    ("tests/acceptance/test_documents.py", "test_the_page_goes_on"),
    ("tests/acceptance/test_oldest_server.py", "test_the_statements"),
    ("tests/acceptance/test_second_database.py", ""),
    ("tests/acceptance/test_wheel.py", "beside_a_code_location"),
    ("tests/browser/test_live.py", "a_message_stays"),
    ("tests/browser/test_live.py", "a_page_goes_on_when"),
    ("tests/browser/test_pages.py", "axe[1280]"),
    ("tests/browser/test_pages.py", "without_script[True]"),
    ("tests/chaos/test_chaos.py", "[all]"),
    ("tests/dagster_reportqueue/test_celery_launcher.py", "another_version"),
    ("tests/dagster_reportqueue/test_celery_launcher.py", "being_stopped"),
    ("tests/dagster_reportqueue/test_celery_launcher.py", "by_their_priority"),
    ("tests/dagster_reportqueue/test_clock_skew.py", "+420s"),
    ("tests/dagster_reportqueue/test_clock_skew.py", "-40s"),
    ("tests/dagster_reportqueue/test_evaluating_sensors.py", "[asset"),
    ("tests/dagster_reportqueue/test_evaluating_sensors.py", "[cron-RUN_IDS_RESERVED]"),
    ("tests/dagster_reportqueue/test_evaluating_sensors.py", "[cron-TICK_CREATED]"),
    ("tests/dagster_reportqueue/test_launcher.py", "after_them[killed]"),
    ("tests/dagster_reportqueue/test_launcher_code.py", ""),
    ("tests/dagster_reportqueue/test_launcher_stays.py", "has_ended_for_dagster_alone"),
    ("tests/dagster_reportqueue/test_launcher_stays.py", "stays_after_its_run"),
    ("tests/dagster_reportqueue/test_launcher_stays.py", "takes_its_runs_and_their_children"),
    ("tests/dagster_reportqueue/test_moves.py", "between_the_queue_and_polling"),
    ("tests/dagster_reportqueue/test_polling_sensor.py", "[RUN_IDS_RESERVED]"),
    ("tests/dagster_reportqueue/test_polling_sensor.py", "[TICK_CREATED]"),
    ("tests/dagster_reportqueue/test_processes.py", "test_a_batch_that_is_killed"),
    ("tests/dagster_reportqueue/test_processes.py", "test_runs_that_are_stopped"),
    ("tests/dagster_reportqueue/test_queue_lanes.py", "in a process of its own"),
    ("tests/dagster_reportqueue/test_queue_sensor.py", "test_a_tick_that_fails_anywhere"),
    ("tests/dagster_reportqueue/test_traces.py", "through_all_processes"),
    ("tests/docs/test_site.py", "[1280-dark]"),
    ("tests/integration/test_admin_exports.py", "test_memory_stays_flat"),
    ("tests/integration/test_admin_lookups.py", "[ReportSchedule]"),
    ("tests/integration/test_admin_lookups.py", "[Report]"),
    ("tests/integration/test_bulk.py", "test_ten_thousand"),
    ("tests/integration/test_caps_at_once.py", "test_sixteen"),
    ("tests/integration/test_choice.py", "test_every_row_is_handed_out"),
    ("tests/integration/test_choice.py", "than_a_claim_looks_at"),
    ("tests/integration/test_connection_pool.py", "[compare_patterns"),
    ("tests/integration/test_connection_pool.py", "[enqueue_due_reports --dry-run"),
    ("tests/integration/test_connection_pool.py", "[prune_report_queue"),
    ("tests/integration/test_connection_pool.py", "[switch_pattern"),
    ("tests/integration/test_custom_user.py", ""),
    ("tests/integration/test_expansion_budget.py", "-last]"),
    ("tests/integration/test_openapi_calls.py", "[negative]"),
    ("tests/integration/test_openapi_calls.py", "test_many_calls"),
    ("tests/integration/test_races.py", "one_wins[2]"),
    ("tests/integration/test_second_database.py", ""),
    ("tests/long/", ""),
    ("tests/orchestrator/test_code_location.py", "REPORT_LANES"),
    ("tests/orchestrator/test_code_location.py", "REPORT_LEASE_SECONDS"),
    ("tests/orchestrator/test_code_location.py", "[asset]"),
    ("tests/orchestrator/test_code_location.py", "[polling]"),
    ("tests/outbox/test_deaths.py", "loses_nothing[recorded]"),
    ("tests/outbox/test_deaths.py", "loses_nothing[recording]"),
    ("tests/outbox/test_deaths.py", "loses_nothing[taken]"),
    ("tests/outbox/test_deaths.py", "test_five_hundred"),
    ("tests/simulator/test_simulate.py", "[2000]"),
    ("tests/simulator/test_simulate.py", "put_back"),
    ("tests/unit/test_cron_zones.py", "test_every_change_of_every_zone"),
    ("tests/versions/test_matrix.py", "test_a_part_passes_on_the_ends_of_the_ranges"),
)
"""Tests that take long, by their file and a part of their name. `run.py test` leaves them out: they play more cases of
what quicker tests hold, too. `run.py test --long` runs them."""


def _empty_databases(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):
        emptying.empty(alias)


TransactionTestCase._fixture_teardown = _empty_databases


LAUNCHER = re.compile(r"^from (tests\.)?dagster_reportqueue\.warm", re.MULTILINE)
"""What a module of tests says that needs the warm launcher."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests."""
    for item in items:
        if any(item.nodeid.startswith(file) and part in item.nodeid for file, part in LONG):
            item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and not what all tests share: that took a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


WHOLE_MINUTES = re.compile(r"\bsecond=0\b")
"""What a module of tests says that counts from the minute in which a test runs."""


@cache
def counts_minutes(path: Path) -> bool:
    """Whether the tests of a module count from the minute that runs."""
    return WHOLE_MINUTES.search(path.read_text()) is not None


@pytest.fixture(autouse=True)
def _within_one_minute(request: pytest.FixtureRequest) -> None:
    """Begin a test that asks twice for the minute early in one: it would have two minutes at a minute's end."""
    left = 60 - time.time() % 60
    if left < 4 and counts_minutes(request.path):
        time.sleep(left)


class LauncherTests(pytest.Module):
    """Tests of the warm launcher, on a version of Dagster that it refuses."""

    def collect(self) -> NoReturn:
        """Skip them all."""
        pytest.skip("the warm launcher refuses this version of Dagster", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip the modules that import the launcher if it refuses this version of Dagster."""
    if not LAUNCHER.search(module_path.read_text()):
        return None
    try:
        import_module("dagster_reportqueue.warm")
    except ImportError:
        return LauncherTests.from_parent(parent, path=module_path)
    return None


def minutes_ago(minutes: float) -> datetime:
    """An instant in the past: tests move time by writing it, never by sleeping."""
    return datetime.now(UTC) - timedelta(minutes=minutes)


def build_row(**fields: Any) -> ReportQueue:
    """A row as `queue` would have left it in its status, with an attempt where a run has started; `fields` override."""
    status = Status(fields.get("status", Status.QUEUED))
    then = minutes_ago(1)
    row: dict[str, Any] = {"report_id": 1, "modifier_id": 2, "trigger_time": then, "available_at": then}
    started = status is Status.RUNNING or status in (Status.SUCCEEDED, Status.FAILED)
    if status in LEASED or started:
        row |= {"generation": 1, "claimed_by": "sensor", "claimed_at": then, "claim_id": uuid4()}
    if status in LEASED:
        row["lease_expires_at"] = minutes_ago(-5)
    if status is Status.DISPATCHED or started:
        row["dispatched_at"] = then
    if started:
        row |= {"attempt": 1, "run_id": f"run-{uuid4()}", "started_at": then}
    if status is Status.RUNNING:
        row["lease_token"] = uuid4()
    if status in FINAL:
        row["finished_at"] = then
    schedule = fields.get("schedule")
    if schedule is not None and schedule.overlap != Overlap.ALLOW:
        row["concurrency_key"] = schedule.pk
    made = ReportQueue.objects.create(**(row | fields))
    if started:
        outcome = {Status.SUCCEEDED: Outcome.SUCCEEDED, Status.FAILED: Outcome.FAILED}.get(status, "")
        ReportAttempt.objects.create(
            queue=made,
            generation=made.generation,
            attempt=made.attempt,
            run_id=made.run_id,
            lease_token=made.lease_token or uuid4(),
            started_at=then,
            outcome=outcome,
            finished_at=then if outcome else None,
        )
    return made


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """No test depends on whose turn it was in the one before, nor on its names: the process remembers both."""
    choice.forget_turns()
    catalogue.forget_names()


@pytest.fixture
def make_row(db: None) -> RowFactory:
    """Builds rows; see `build_row`."""
    return build_row


def build_schedule(**fields: Any) -> ReportSchedule:
    """A saved schedule, once a year in UTC unless told otherwise; `next_run_at` is written past the planning."""
    planned = fields.pop("next_run_at", None)
    schedule = ReportSchedule(**({"report_id": 1, "modifier_id": 2, "cron": "0 0 1 1 *"} | fields))
    schedule.save()
    if planned is not None:
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=planned)
        schedule.refresh_from_db()
    return schedule


@pytest.fixture
def make_schedule(db: None) -> Callable[..., ReportSchedule]:
    """Saves schedules; see `build_schedule`."""
    return build_schedule


@pytest.fixture
def client_with(db: None) -> ClientFactory:
    """An API client whose token's user has just these permissions of reportqueue; `client_with(None)`: no token."""

    def make(*codenames: str | None) -> APIClient:
        client = APIClient()
        if codenames != (None,):
            user = User.objects.create_user(f"user-{uuid4()}")
            found = Permission.objects.filter(content_type__app_label="reportqueue", codename__in=codenames)
            assert found.count() == len(codenames), f"no such permission among {codenames}"
            user.user_permissions.set(found)
            key = tokens.issue(user, name="test").key
            tokens.authenticate(key)  # this notes its use, so that the next calls write nothing beside their own work
            client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
        return client

    return make
