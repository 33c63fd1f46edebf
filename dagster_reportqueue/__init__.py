"""The Dagster library of reportqueue: sensors that launch exactly one run for each claimed report, and their jobs.

    from dagster_reportqueue import build_definitions

It calls the queue over HTTP and does not import Django. A public name is imported at its first use, because Dagster's
daemon and the warm server load this package for the launcher only, and because `dagster_reportqueue.client` works
without Dagster.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_reportqueue.assets import build_schedules_refresh
    from dagster_reportqueue.client import (
        ApiError,
        ApiRefused,
        ApiUnreachable,
        Conflict,
        NewReport,
        QueueItem,
        QueueRow,
        ReportQueueClient,
        RowHistory,
        Schedule,
    )
    from dagster_reportqueue.component import ReportQueueComponent
    from dagster_reportqueue.definitions import assemble, build_definitions, queue_lanes
    from dagster_reportqueue.environment import Environment
    from dagster_reportqueue.execution.batch import run_reports
    from dagster_reportqueue.execution.report import ReportRun, Work
    from dagster_reportqueue.execution.run import run_report
    from dagster_reportqueue.jobs import build_batch_job, build_report_job
    from dagster_reportqueue.pipes import ReportPipesClient
    from dagster_reportqueue.report_assets import build_report_asset
    from dagster_reportqueue.resources import ReportQueueResource
    from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
    from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes, build_queue_sensor, report_data_config
    from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
    from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
    from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor
    from dagster_reportqueue.tickets import FiringTicket, Ticket

_CLIENT_NEEDS = ("requests", "urllib3")
_NEEDS = ("dagster", *_CLIENT_NEEDS, "croniter")


def _require(needed: tuple[str, ...]) -> None:
    """Raise `ModuleNotFoundError`, which names the extra, if one of these is not installed."""
    if any(find_spec(name) is None for name in needed):
        missing = [name for name in _NEEDS if find_spec(name) is None]
        raise ModuleNotFoundError(
            f"dagster_reportqueue needs {', '.join(missing)}. Install the extra `dagster`, or `client` for its client "
            "alone: pip install 'reportqueue[dagster]'",
            name=missing[0],
        )


_require(_CLIENT_NEEDS)
_HOMES = {
    "assets": ("build_schedules_refresh",),
    "client": (
        "ApiError",
        "ApiRefused",
        "ApiUnreachable",
        "Conflict",
        "NewReport",
        "QueueItem",
        "QueueRow",
        "ReportQueueClient",
        "RowHistory",
        "Schedule",
    ),
    "component": ("ReportQueueComponent",),
    "definitions": (
        "assemble",
        "build_definitions",
        "queue_lanes",
    ),
    "environment": ("Environment",),
    "execution.batch": ("run_reports",),
    "execution.report": (
        "ReportRun",
        "Work",
    ),
    "execution.run": ("run_report",),
    "jobs": (
        "build_batch_job",
        "build_report_job",
    ),
    "pipes": ("ReportPipesClient",),
    "report_assets": ("build_report_asset",),
    "resources": ("ReportQueueResource",),
    "sensors.queue_sensor": (
        "build_queue_lanes",
        "build_queue_sensor",
        "report_data_config",
    ),
    "sensors.repair_sensors": ("build_repair_sensors",),
    "sensors.report_sensor": ("build_report_cron_sensor",),
    "sensors.smart_sensor": ("build_smart_cron_sensor",),
    "sensors.polling_sensor": ("build_polling_sensor",),
    "tickets": (
        "FiringTicket",
        "Ticket",
    ),
}
"""The module of each public name."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "ApiError",
    "ApiRefused",
    "ApiUnreachable",
    "Conflict",
    "Environment",
    "FiringTicket",
    "NewReport",
    "QueueItem",
    "QueueRow",
    "ReportPipesClient",
    "ReportQueueClient",
    "ReportQueueComponent",
    "ReportQueueResource",
    "ReportRun",
    "RowHistory",
    "Schedule",
    "Ticket",
    "Work",
    "assemble",
    "build_batch_job",
    "build_definitions",
    "build_polling_sensor",
    "build_queue_lanes",
    "build_queue_sensor",
    "build_repair_sensors",
    "build_report_asset",
    "build_report_cron_sensor",
    "build_report_job",
    "build_schedules_refresh",
    "build_smart_cron_sensor",
    "queue_lanes",
    "report_data_config",
    "run_report",
    "run_reports",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module, at its first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME_OF[name] != "client":
        _require(_NEEDS)
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
