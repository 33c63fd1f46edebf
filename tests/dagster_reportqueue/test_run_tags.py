"""The tags by which people find the runs of a report, a modifier or a schedule in Dagster."""

from __future__ import annotations

from dagster import DagsterInstance, build_sensor_context
from dagster._core.storage.tags import TagType, get_tag_type

from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import FiringTicket
from dagster_reportqueue.warm.address import TAG
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import daemon
from tests.dagster_reportqueue.front import Front

IDS = ("reportqueue/report_id", "reportqueue/modifier_id", "reportqueue/schedule_id")


def test_the_run_of_a_schedules_row_names_report_modifier_and_schedule_and_is_no_firing(instance: DagsterInstance):
    schedule = build_schedule()
    build_row(report_id=7, modifier_id=8, schedule=schedule)
    with daemon(instance) as sensor:
        sensor.tick()
    (run,) = instance.get_runs()
    assert [run.tags[name] for name in IDS] == ["7", "8", str(schedule.pk)]
    assert FiringTicket.of_run(run.tags) is None, "a failed run of it would be queued as a firing"


def test_a_polled_run_names_them_too(instance: DagsterInstance):
    allow_consumer("view_reportqueue")
    schedule = build_schedule()
    build_row(report_id=7, modifier_id=8, schedule=schedule)
    build_row(report_id=9, modifier_id=8)
    with daemon(instance, "polling_sensor") as sensor:
        sensor.tick()
    found = {run.tags[IDS[0]]: run.tags.get(IDS[2]) for run in instance.get_runs()}
    assert found == {"7": str(schedule.pk), "9": None}


def test_a_batch_names_its_ids_or_how_many_they_are(front: Front, token: str):
    schedule = build_schedule()
    for number in range(4):
        build_row(report_id=number % 2, available_at=minutes_ago(60 - number), schedule=schedule)
    for number in range(12):
        build_row(report_id=number, available_at=minutes_ago(30 - number))
    sensor = location.build_queue_sensor(
        location.report_job, max_in_flight=100, batch_job=location.batch_job, batch_from=2, batch_runs=1
    )
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
        result = sensor(context, report_queue=ReportQueueResource(url=front.url, token=token))
    (request,) = result.run_requests
    assert {name: request.tags.get(name) for name in IDS} == {
        IDS[0]: "12 different",
        IDS[1]: "2",
        IDS[2]: str(schedule.pk),
    }


def test_dagster_does_not_show_the_tag_of_the_warm_launcher():
    assert get_tag_type(TAG) is TagType.HIDDEN
