"""From the request to the finished report, over HTTP. `tests/acceptance/test_unusual_project.py` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, build_sensor_context
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.test import Client
from unusual.urls import PREFIX

import dagster_reportqueue
import reportqueue
from dagster_reportqueue import ApiRefused, ReportQueueResource, ReportRun, build_queue_sensor, build_report_job
from reportqueue import queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status

pytestmark = pytest.mark.django_db(transaction=True)


def make(run: ReportRun) -> dict[str, Any]:
    return {"title": f"Report {run.report_id}"}


@pytest.fixture(autouse=True, scope="session")
def no_connection_stays(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The web server's threads end when their clients have gone: the database could not be dropped meanwhile."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def resource(live_server: Any, capsys: pytest.CaptureFixture[str]) -> ReportQueueResource:
    """Dagster's, at the address at which the project has the API."""
    call_command("create_consumer", "dagster@example.com")
    return ReportQueueResource(url=f"{live_server.url}/{PREFIX}", token=capsys.readouterr().out.strip())


def test_it_is_the_wheel_and_nothing_of_the_checkout():
    for package in (reportqueue, dagster_reportqueue):
        assert package.__file__ is not None
        assert "site-packages" in Path(package.__file__).parts
    assert [name for name in ("project", "orchestrator", "tools", "tests.conftest") if _found(name)] == []


def test_a_report_goes_all_the_way(resource: ReportQueueResource):
    row = queue.enqueue(report_id=3, modifier_id=17)
    job = build_report_job(make)
    with DagsterInstance.ephemeral() as instance:
        context = build_sensor_context(instance=instance, resources={"report_queue": resource})
        result: Any = build_queue_sensor(job, name="rows")(context)
    (request,) = result.run_requests
    assert job.execute_in_process(
        run_config=request.run_config, tags=request.tags, resources={"report_queue": resource}
    ).success
    row.refresh_from_db()
    assert (row.status, row.result) == (Status.SUCCEEDED, {"title": "Report 3"})


def test_errors_and_times_are_the_apis_own(resource: ReportQueueResource):
    client = resource.client()
    with pytest.raises(ApiRefused) as refused:
        client.row(7)
    assert (refused.value.status, refused.value.kind) == (404, "not-found")
    at = datetime(2027, 1, 1, 8, tzinfo=UTC)
    rows = [queue.enqueue(report_id=3, modifier_id=number, trigger_time=at) for number in range(3)]
    assert [row.queue_id for row in client.rows_at(3, 1, at)] == [rows[1].pk]
    assert len(list(client.rows("queued"))) == 3


def test_a_schedule_fires_at_its_own_zones_time(resource: ReportQueueResource):
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 8 * * *", timezone="Europe/Paris")
    schedule.save()
    assert schedule.next_run_at is not None
    assert schedule.next_run_at.astimezone(UTC).hour in (6, 7)
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    ReportSchedule.objects.update(next_run_at=due)
    assert schedules.enqueue_due().enqueued == 1


def test_the_tables_are_where_the_search_path_says(resource: ReportQueueResource):
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = %s", [ReportQueue._meta.db_table])
        assert cursor.fetchall() == [("their_schema",)]


def test_the_checks_have_nothing_against_it():
    assert [
        found
        for found in run_checks(include_deployment_checks=False, databases=["default"])
        if found.id and found.id.startswith("reportqueue")
    ] == []


def test_the_admins_addresses_have_no_thousands_separator():
    client = Client()
    client.force_login(get_user_model().objects.create(email="root@example.com", is_superuser=True, is_staff=True))
    now = datetime.now(UTC)
    row = ReportQueue.objects.create(id=12_345, report_id=1, modifier_id=2, trigger_time=now, available_at=now)
    queue.cancel(row.pk)
    assert (
        f"/staff/reportqueue/reportqueue/{row.pk}/change/"
        in client.get("/staff/reportqueue/reportqueue/").content.decode()
    )
    address = f"/staff/reportqueue/reportqueue/{row.pk}/change/"
    assert client.get(address).status_code == 200
    done = client.post(f"/staff/reportqueue/reportqueue/{row.pk}/requeue/", follow=True)
    assert done.status_code == 200
    row.refresh_from_db()
    assert row.status == Status.QUEUED


def test_the_probes_need_no_login():
    assert [Client().get(f"/health/{name}").status_code for name in ("healthz", "readyz", "status")] == [200] * 3


def _found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
