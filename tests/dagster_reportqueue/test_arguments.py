"""The arguments of the builders: what cannot work is refused when it is given, and the error says what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg
import pytest

from dagster_reportqueue import (
    Environment,
    ReportRun,
    assemble,
    build_batch_job,
    build_definitions,
    build_polling_sensor,
    build_queue_lanes,
    build_queue_sensor,
    build_repair_sensors,
    build_report_asset,
    build_report_cron_sensor,
    build_report_job,
    build_schedules_refresh,
    build_smart_cron_sensor,
    queue_lanes,
)


def make(run: ReportRun) -> dict[str, Any]:
    return {}


@dg.op
def an_op() -> None:
    """No function from a row to a job, though it can be called."""


@dg.asset
def an_asset() -> None:
    """The same."""


@dg.job
def own_job() -> None:
    """A job of one's own, which has no op of ours."""


async def make_later(run: ReportRun) -> dict[str, Any]:
    return {}


def make_some(run: ReportRun) -> Iterator[dict[str, Any]]:
    yield {}


async def make_some_later(run: ReportRun) -> AsyncIterator[dict[str, Any]]:
    yield {}


class Later:
    """Reports as objects that can be called."""

    async def __call__(self, run: ReportRun) -> dict[str, Any]:
        return {}


def make_nothing() -> None:
    """No report's code: it takes none."""


def make_with(run: ReportRun, connection: object) -> None:
    """It needs more than a report's code gets."""


class Unknown:
    """Its signature is not known to Python, as that of some functions in C."""

    __signature__ = "unknown"

    def __call__(self, run: ReportRun) -> None:
        """Make it."""


JOB, BATCH_JOB = build_report_job(make), build_batch_job(make)
SENSOR = build_queue_sensor(JOB)
ENVIRONMENT = Environment()
NUMBER = {"limit": (1, 100), "minimum_interval_seconds": (1, 86_400)}
OF_SENSORS: dict[str, tuple[Any, str]] = {
    "name": (None, "name must be a text; it is None."),
    "default_status": ("RUNNING", "default_status must be a DefaultSensorStatus; it is 'RUNNING'."),
}
FIRING: list[Callable[..., Any]] = [build_polling_sensor, build_report_cron_sensor, build_smart_cron_sensor]
QUEUE: list[Callable[..., Any]] = [build_queue_sensor, build_queue_lanes]
LATER = "a function that takes a ReportRun; neither an async function nor a generator; it is "

REPAIR: list[Callable[..., Any]] = [build_repair_sensors]
JOBS: list[Callable[..., Any]] = [build_report_job, build_batch_job]
LONG = "x" * 101
WRONG: list[tuple[list[Callable[..., Any]], tuple[Any, ...], dict[str, Any], str]] = [
    (FIRING, (None,), {}, "job must be a job of Dagster; it is None."),
    (FIRING, ("report_job",), {}, "job must be a job of Dagster; it is 'report_job'."),
    (FIRING, (make,), {}, "job must be a job of Dagster; it is <function make"),
    (QUEUE, (None,), {}, "job must be a job of Dagster, or a function from a row to one of the jobs; it is None."),
    (QUEUE, ("report_job",), {}, "a function from a row to one of the jobs; it is 'report_job'."),
    (QUEUE, (an_op,), {}, "a function from a row to one of the jobs; it is <dagster"),
    (QUEUE, (an_asset,), {}, "a function from a row to one of the jobs; it is <dagster"),
    (QUEUE, (lambda row: JOB,), {"jobs": []}, "job is a function: name in jobs all jobs that it may return."),
    (QUEUE, (lambda row: JOB,), {"jobs": [JOB, "name"]}, "jobs[1] must be a job of Dagster; it is 'name'."),
    (QUEUE, (lambda row: JOB,), {"jobs": "name"}, "jobs must be a list, each of it a job of Dagster; it is 'name'."),
    (QUEUE, (JOB,), {"jobs": None}, "jobs must be a list, each of it a job of Dagster; it is None."),
    (QUEUE, (JOB,), {"run_config": {}}, "run_config must be a function from a row to its run config, or None; it is"),
    (QUEUE, (JOB,), {"run_tags": {"a": "b"}}, "run_tags must be a function from a row to further tags of its run, or"),
    (QUEUE, (JOB,), {"partition_key": "2026"}, "partition_key must be a function from a row to a partition, or None"),
    (QUEUE, (JOB,), {"max_in_flight": 0}, "max_in_flight must be from 1 to 2,147,483,647; it is 0."),
    (QUEUE, (JOB,), {"max_in_flight": "5"}, "max_in_flight must be a whole number from 1 to 2,147,483,647; it is '5'."),
    (QUEUE, (JOB,), {"batch_job": "batch"}, "batch_job must be a job of build_batch_job, or None; it is 'batch'."),
    (
        QUEUE,
        (JOB,),
        {"batch_job": BATCH_JOB, "max_in_flight": 9, "batch_size": True},
        "batch_size must be a whole number from 2 to 1,000; it is True.",
    ),
    (
        QUEUE,
        (JOB,),
        {"batch_job": BATCH_JOB, "max_in_flight": 9, "batch_from": 2.5},
        "batch_from must be a whole number from 2 to 100; it is 2.5.",
    ),
    ([build_queue_sensor], (JOB,), {"wait_seconds": "1"}, "wait_seconds must be a number of seconds; it is '1'."),
    ([build_queue_sensor], (JOB,), {"consumer": ""}, "consumer must be a text of 1 to 100 characters; it is ''."),
    ([build_queue_sensor], (JOB,), {"consumer": 7}, "consumer must be a text; it is 7."),
    ([build_queue_sensor], (JOB,), {"name": LONG}, "name must be a text of 1 to 100 characters; it is 'xxx"),
    ([build_queue_lanes], (JOB,), {"lanes": "3"}, "lanes must be a whole number from 1 to 8; it is '3'."),
    (REPAIR, (), {"consumers": "sensor"}, "consumers must be a list, each of it a consumer's name, a text; it is 's"),
    (REPAIR, (), {"consumers": [SENSOR]}, "consumers[0] must be a consumer's name, a text; it is <dagster"),
    (REPAIR, (), {"consumers": [""]}, "consumers[0] must be a text of 1 to 100 characters; it is ''."),
    (JOBS, ("make",), {}, "work must be the code of a report, a function that takes a ReportRun; it is 'make'."),
    (JOBS, (make,), {"name": None}, "name must be a text; it is None."),
    (JOBS, (make,), {"lease_seconds": "60"}, "lease_seconds must be a whole number from 5 to 86,400; it is '60'."),
    (JOBS, (make,), {"lease_seconds": 4}, "lease_seconds must be from 5 to 86,400; it is 4."),
    (JOBS, (make,), {"partitions_def": ["a"]}, "partitions_def must be a PartitionsDefinition, or None; it is ['a']."),
    *((JOBS, (later,), {}, LATER) for later in (make_later, make_some, make_some_later, Later(), partial(make_later))),
    (JOBS, (make_nothing,), {}, "and cannot be called with it: too many positional arguments."),
    (JOBS, (make_with,), {}, "and cannot be called with it: missing a required argument: 'connection'."),
    *((JOBS, (one,), {}, "work must be the code of a report") for one in (JOB, an_op, an_asset)),
    (QUEUE, (own_job,), {}, "job has the job 'own_job', which has no op 'report_data': take one of build_report_job,"),
    (QUEUE, (BATCH_JOB,), {}, "which has no op 'report_data': take one of build_report_job, or give the sensor run_co"),
    (
        QUEUE,
        (JOB,),
        {"batch_job": JOB, "max_in_flight": 500},
        "batch_job has the job 'process_report_job', which has no op 'report_batch': take a job of build_batch_job.",
    ),
    (
        [build_queue_lanes],
        (JOB,),
        {"wait_seconds": 3},
        "wait_seconds cannot be given: each lane has a wait of",
    ),
    (REPAIR, (), {"consumers": ""}, "consumers must be a list, each of it a consumer's name, a text; it is ''."),
    (QUEUE, (JOB,), {"consumer": " "}, "consumer must be a text that can be read; it is ' '."),
    (QUEUE, (JOB,), {"consumer": "a\x00b"}, "consumer must be a text that can be read; it is 'a\\x00b'."),
    (QUEUE, (JOB,), {"consumer": "a\ud800"}, "consumer must be a text that can be read; it is 'a\\ud800'."),
    ([build_report_asset], (None,), {"key": "a"}, "work must be the code of a report"),
    ([build_report_asset], (make,), {"key": ["a", "b"]}, "key must be a text or an AssetKey; it is ['a', 'b']."),
    ([build_report_asset], (make,), {"key": "a", "job_name": 1}, "job_name must be a text, or None; it is 1."),
    ([build_report_asset], (make,), {"key": "a", "partitions_def": "daily"}, "partitions_def must be a Partition"),
    ([build_report_asset], (make,), {"key": "a", "lease_seconds": None}, "lease_seconds must be a whole number from"),
    ([build_schedules_refresh], (), {"cron_schedule": None}, "cron_schedule must be a cron expression, a text; it is"),
    ([build_schedules_refresh], (), {"default_status": True}, "default_status must be a DefaultScheduleStatus; it is"),
    ([build_definitions], (None,), {}, "work must be the code of a report, a function that takes a ReportRun; it is"),
    ([queue_lanes], (None, JOB, BATCH_JOB), {}, "environment must be an Environment; it is None."),
    ([queue_lanes], (ENVIRONMENT, JOB, "batch"), {}, "batch_job must be a job of build_batch_job, or None; it is 'b"),
    ([assemble], ({},), {"jobs": [], "sensors": {}}, "environment must be an Environment; it is {}."),
    ([assemble], (ENVIRONMENT,), {"jobs": JOB, "sensors": {}}, "jobs must be a list, each of it a job of Dagster; it"),
    ([assemble], (ENVIRONMENT,), {"jobs": [], "sensors": [SENSOR]}, "sensors must be a mapping from patterns to their"),
    (
        [assemble],
        (ENVIRONMENT,),
        {"jobs": [], "sensors": {"webhook": [SENSOR]}},
        "A pattern in sensors must be one of cron, asset, polling, queue; it is 'webhook'.",
    ),
    (
        [assemble],
        (ENVIRONMENT,),
        {"jobs": [], "sensors": {"queue": SENSOR}},
        "sensors['queue'] must be a list, each of",
    ),
    ([assemble], (ENVIRONMENT,), {"jobs": [], "sensors": {"queue": [JOB]}}, "sensors['queue'][0] must be a sensor of"),
    ([assemble], (ENVIRONMENT,), {"jobs": [], "sensors": {"queue": []}}, "sensors has none for the pattern queue, whi"),
    ([assemble], (ENVIRONMENT,), {"jobs": [], "sensors": {"cron": []}}, "sensors has none for the pattern queue, whic"),
    ([Environment], (), {"patterns": "queue"}, "patterns must be a list, each of it the name of a pattern; it is 'q"),
    ([Environment], (), {"patterns": ("webhook",)}, "patterns has 'webhook'; it names one or several of cron, asset"),
    ([Environment], (), {"patterns": ()}, "patterns must name at least one pattern, and none of them twice."),
    ([Environment], (), {"patterns": ("queue", "queue")}, "patterns must name at least one pattern, and none of them"),
    ([Environment], (), {"lanes": 9}, "lanes must be from 1 to 8; it is 9."),
    *((FIRING + QUEUE, (JOB,), {name: value}, said) for name, (value, said) in OF_SENSORS.items()),
    (REPAIR, (), {"default_status": None}, "default_status must be a DefaultSensorStatus; it is None."),
    (REPAIR, (), {"minimum_interval_seconds": 0}, "minimum_interval_seconds must be from 1 to 86,400; it is 0."),
    *(
        (FIRING + QUEUE, (JOB,), {name: "5"}, f"{name} must be a whole number from {low} to {high:,}; it is '5'.")
        for name, (low, high) in NUMBER.items()
    ),
    (
        FIRING[1:],
        (JOB,),
        {"catch_up_seconds": None},
        "catch_up_seconds must be a whole number from 60 to 2,678,400; it",
    ),
]


@pytest.mark.parametrize(
    ("build", "given", "options", "said"),
    [(build, *rest) for builders, *rest in WRONG for build in builders],
)
def test_what_cannot_work_is_refused_when_it_is_given(
    build: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any], said: str
):
    with pytest.raises((TypeError, ValueError)) as error:
        build(*given, **options)
    assert str(error.value).startswith(said) or said in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("work", [make, partial(make), lambda run: None, lambda *any_number: None, dict, Unknown()])
def test_code_that_can_be_called_with_a_report_is_taken(work: Any):
    assert build_report_job(work).name == "process_report_job"


def test_a_job_of_ones_own_is_taken_without_run_config():
    assert build_queue_sensor(own_job, run_config=None).name == "database_queue_sensor"


@pytest.mark.parametrize(
    ("key", "name"),
    [("sales-report", "sales_report_job"), (dg.AssetKey(["eu-west", "sales"]), "eu_west_sales_job")],
    ids=str,
)
def test_the_job_of_an_asset_has_a_name_that_a_job_can_have(key: Any, name: str):
    made, job = build_report_asset(make, key=key)
    assert dg.Definitions(assets=[made], jobs=[job], resources={"report_queue": object()}).resolve_job_def(name)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REPORT_LANES", "0", "REPORT_LANES must be from 1 to 8; it is 0."),
        ("REPORT_LANES", "²", "REPORT_LANES must be a whole number from 1 to 8; it is '²'."),
        ("REPORT_LANES", "9" * 5_000, "REPORT_LANES must be a whole number from 1 to 8; it is '9999"),
        ("REPORT_BATCH_FROM", "1", "REPORT_BATCH_FROM must be from 2 to 25; it is 1."),
        ("REPORT_BATCH_FROM", "26", "REPORT_BATCH_FROM must be from 2 to 25; it is 26."),
        ("REPORT_BATCH_SIZE", "1001", "REPORT_BATCH_SIZE must be from 1 to 1,000; it is 1001."),
        ("REPORT_MAX_IN_FLIGHT", "-1", "REPORT_MAX_IN_FLIGHT must be from 1 to 2,147,483,647; it is -1."),
        ("CRON_SENSOR_INTERVAL", "0", "CRON_SENSOR_INTERVAL must be from 1 to 86,400; it is 0."),
        ("REPORT_LEASE_SECONDS", "4", "REPORT_LEASE_SECONDS must be from 5 to 86,400; it is 4."),
        ("REPORT_TRIGGER_PATTERN", "queue,queue", "REPORT_TRIGGER_PATTERN must name at least one pattern, and none of"),
    ],
)
def test_a_variable_out_of_its_bounds_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match="must") as error:
        Environment.read()
    assert str(error.value).startswith(said)
