"""A code location for tests: what a report does is in its row's parameters."""

import sys
import threading
from collections.abc import Mapping
from typing import Any

from dagster import (
    Definitions,
    DynamicPartitionsDefinition,
    EnvVar,
    OpExecutionContext,
    StaticPartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
    job,
    multiprocess_executor,
    op,
)

from dagster_reportqueue.assets import build_schedules_refresh
from dagster_reportqueue.client import QueueItem
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.execution.run import run_report
from dagster_reportqueue.jobs import build_batch_job, build_report_job
from dagster_reportqueue.report_assets import build_report_asset
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor, report_data_config
from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor
from dagster_reportqueue.tickets import Ticket


def make(run: ReportRun) -> Mapping[str, Any]:
    """`{"do": "raise"}` fails, `{"do": "wait"}` goes on until it is interrupted, anything else is made at once."""
    if run.params.get("do") == "raise":
        raise ZeroDivisionError("the year has no months")
    if run.params.get("do") == "wait":
        run.progress("waiting")
        threading.Event().wait(120)
        raise TimeoutError("nobody interrupted the report")
    return {"rows": 3} | ({} if run.partition_key is None else {"partition": run.partition_key})


report_job = build_report_job(make, name="report_job", lease_seconds=5)
batch_job = build_batch_job(make, name="batch_job", lease_seconds=5)


@op
def render(context: OpExecutionContext, report_queue: ReportQueueResource) -> str:
    """Anybody's op: its run finds its row by its tags."""
    ticket = Ticket.of_run(context.run.tags)
    if ticket is None:
        return "by hand"
    result = run_report(context, report_queue.client(), ticket, make, lease_seconds=5)
    return "not mine" if result is None else f"{result['rows']} rows"


@op
def send(text: str) -> str:
    """What a job does after its report."""
    return f"sent {text}"


@job
def own_job() -> None:
    """Anybody's job, which takes no run config."""
    send(render())


@job(executor_def=multiprocess_executor)
def default_job() -> None:
    """Anybody's job with Dagster's default executor: each op in a process of its own."""
    render()


@op(config_schema={"year": int})
def render_year(context: OpExecutionContext, report_queue: ReportQueueResource) -> None:
    """Anybody's op with run config."""
    run_report(context, report_queue.client(), Ticket.of_run(context.run.tags), make)


@job
def year_job() -> None:
    """Anybody's job, which wants run config."""
    render_year()


YEAR_CONFIG = {"ops": {"render_year": {"config": {"year": 2026}}}}


def year_config(item: QueueItem) -> Mapping[str, Any]:
    """Raises KeyError for a row without a year; its config does not validate if the year is no number."""
    return {"ops": {"render_year": {"config": {"year": item.params["year"]}}}}


@asset
def report_asset(report_queue: ReportQueueResource) -> None:
    """Something to launch."""


@asset(partitions_def=StaticPartitionsDefinition(["2025", "2026"]))
def partitioned_asset() -> None:
    """Something that needs a partition."""


@job(partitions_def=StaticPartitionsDefinition(["2025", "2026"]))
def partitioned_job() -> None:
    """Anybody's job, each of whose runs needs a partition."""
    render()


class Unspeakable(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError


CUSTOMERS = DynamicPartitionsDefinition(name="customers")
customer_job = build_report_job(make, name="customer_job", lease_seconds=5, partitions_def=CUSTOMERS)
customer_batch_job = build_batch_job(make, name="customer_batch_job", lease_seconds=5, partitions_def=CUSTOMERS)


def job_of(item: QueueItem) -> Any:
    """As the row says; by its name or as it is."""
    return {"report": report_job, "customer": customer_job}.get(item.params["job"], item.params["job"])


def partition_of(item: QueueItem) -> Any:
    """As the row says."""
    if item.params.get("do") == "no partition":
        raise LookupError("the customer is unknown")
    if item.params.get("do") == "exit":
        sys.exit(3)
    if item.params.get("do") == "no text":
        raise Unspeakable
    return item.params.get("partition")


def tags_of(item: QueueItem) -> Any:
    """As the row says."""
    tags = item.params.get("tags", {})
    unstorable = {"nul": "a\0", "half": "\ud800"}
    return {name: unstorable.get(value, value) if name == "from_code" else value for name, value in tags.items()}


def config_of(item: QueueItem) -> Mapping[str, Any]:
    """`partitioned_job` takes none."""
    return {} if item.params["job"] == "partitioned_job" else report_data_config(item)


report_sensor = build_queue_sensor(report_job, name="report_sensor", wait_seconds=0.1, max_in_flight=50)
batch_sensor = build_queue_sensor(
    report_job,
    name="batch_sensor",
    limit=4,
    max_in_flight=100,
    batch_job=batch_job,
    batch_from=3,
    batch_size=4,
    batch_runs=1,
)
own_sensor = build_queue_sensor(own_job, name="own_sensor", consumer="own", run_config=None)
year_sensor = build_queue_sensor(year_job, name="year_sensor", run_config=year_config)
asset_sensor = build_queue_sensor(
    define_asset_job("asset_job", [report_asset]), name="asset_sensor", run_config=None, limit=1
)
waiting_sensor = build_queue_sensor(report_job, name="waiting_sensor", wait_seconds=24)
choosing_sensor = build_queue_sensor(
    job_of,
    jobs=[report_job, customer_job, partitioned_job],
    name="choosing_sensor",
    run_config=config_of,
    partition_key=partition_of,
    run_tags=tags_of,
    limit=4,
    max_in_flight=100,
    batch_job=customer_batch_job,
    batch_from=4,
    batch_size=50,
)
polling_sensor = build_polling_sensor(report_job, name="polling_sensor", minimum_interval_seconds=1)
cron_sensor = build_report_cron_sensor(report_job, name="cron_sensor", limit=3, minimum_interval_seconds=1)
smart_sensor = build_smart_cron_sensor(report_job, name="smart_sensor", limit=3, minimum_interval_seconds=1)
partitioned_asset_job = define_asset_job("partitioned_asset_job", [partitioned_asset])
"""Its definition does not know that it has partitions: its asset does."""
customer_asset, customer_asset_job = build_report_asset(
    make, key="customer_report", partitions_def=CUSTOMERS, lease_seconds=5, group_name="reports"
)


@asset(deps=[customer_asset], partitions_def=CUSTOMERS)
def customer_summary() -> None:
    """Made of the report."""


asset_report_sensor = build_queue_sensor(
    define_asset_job("customer_assets", [customer_asset, customer_summary]),
    name="asset_report_sensor",
    run_config=None,
    partition_key=partition_of,
)
partitioned_sensors = [
    build_queue_sensor(partitioned_asset_job, name="partitioned_queue_sensor", run_config=None),
    build_polling_sensor(partitioned_asset_job, name="partitioned_polling_sensor"),
    build_report_cron_sensor(partitioned_asset_job, name="partitioned_cron_sensor"),
    build_smart_cron_sensor(partitioned_asset_job, name="partitioned_smart_sensor"),
]
schedules_asset, refresh_job, refresh_schedule = build_schedules_refresh()
defs = Definitions(
    assets=[report_asset, partitioned_asset, customer_asset, customer_summary, schedules_asset],
    jobs=[
        report_job,
        batch_job,
        own_job,
        default_job,
        year_job,
        partitioned_job,
        customer_job,
        customer_batch_job,
        customer_asset_job,
        refresh_job,
    ],
    schedules=[refresh_schedule],
    sensors=[
        report_sensor,
        batch_sensor,
        own_sensor,
        year_sensor,
        asset_sensor,
        waiting_sensor,
        choosing_sensor,
        asset_report_sensor,
        polling_sensor,
        cron_sensor,
        smart_sensor,
        *partitioned_sensors,
    ],
    executor=in_process_executor,
    resources={"report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))},
)


# For `reconstructable`: the jobs with their resources.


def the_report_job() -> Any:
    return defs.resolve_job_def("report_job")


def the_default_job() -> Any:
    return defs.resolve_job_def("default_job")
