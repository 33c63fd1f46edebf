"""From the request to the finished report, over HTTP. `tests/integration/test_unusual_settings.py` runs it.

The queue is in a database of its own; `database_road.py` says what that means.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import DagsterInstance, build_sensor_context
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import Client

from dagster_reportqueue import ApiRefused, ReportQueueResource, ReportRun, build_queue_sensor, build_report_job
from reportqueue import database, queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule
from tests.unusual.urls import PREFIX

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def make(run: ReportRun) -> dict[str, Any]:
    return {"title": f"Report {run.report_id}"}


@pytest.fixture
def resource(live_server: Any, capsys: pytest.CaptureFixture[str]) -> ReportQueueResource:
    """Dagster's, at the address at which the project has the API."""
    call_command("create_consumer", "dagster")
    return ReportQueueResource(url=f"{live_server.url}/{PREFIX}", token=capsys.readouterr().out.strip())


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
    schedule = build_schedule(cron="0 8 * * *", timezone="Europe/Paris")
    assert schedule.next_run_at is not None
    assert schedule.next_run_at.astimezone(UTC).hour in (6, 7)
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    ReportSchedule.objects.update(next_run_at=due)
    assert schedules.enqueue_due().enqueued == 1


def test_the_tables_are_where_the_search_path_says(resource: ReportQueueResource):
    with database.connection().cursor() as cursor:
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = %s", [ReportQueue._meta.db_table])
        assert cursor.fetchall() == [("their_schema",)]


def test_the_checks_have_nothing_against_it_but_say_what_a_database_of_its_own_means():
    found = run_checks(include_deployment_checks=False, databases=["default", "reports"])
    (said,) = [one for one in found if (one.id or "").startswith("reportqueue")]
    assert said.id == "reportqueue.W003"
    assert "'reports'" in said.msg
    assert "on_commit" in str(said.hint)


def test_the_admins_addresses_have_no_thousands_separator():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    row = build_row(id=12_345, status=Status.FAILED, error="why")
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
