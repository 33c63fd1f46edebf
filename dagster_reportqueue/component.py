"""A component of Dagster's `dg`: a whole code location for reports, from a few lines of YAML."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from dagster import (
    Component,
    ComponentLoadContext,
    Definitions,
    Model,
    Resolvable,
    Scaffolder,
    ScaffoldRequest,
    scaffold_component,
    scaffold_with,
)
from pydantic import Field

from dagster_reportqueue.definitions import define
from dagster_reportqueue.environment import Environment

if TYPE_CHECKING:
    from dagster_reportqueue.execution.report import Work

SCAFFOLDED = '''"""The code of the reports."""

from dagster_reportqueue import ReportRun


def make_report(run: ReportRun) -> dict:
    """Make one report; the result is shown in the queue and in Dagster."""
    return {"title": f"Report {run.report_id} of modifier {run.modifier_id}"}
'''


class ReportQueueScaffolder(Scaffolder[Any]):
    """Writes `defs.yaml`, and `report.py` for the code of the reports."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        """Called by `dg scaffold defs`."""
        scaffold_component(request, {"report": ".report.make_report"})
        (request.target_path / "report.py").write_text(SCAFFOLDED)


@scaffold_with(ReportQueueScaffolder)
class ReportQueueComponent(Component, Model, Resolvable):
    """Makes the reports of a report queue: the jobs, the sensors of the patterns, and the repair sensors.

    A code location has one such component, because it has the resource `report_queue`. The environment variables
    REPORTQUEUE_URL and REPORTQUEUE_TOKEN say where the queue is. `report` is resolved when the component is loaded.
    """

    report: str = Field(
        description="The function that makes a report, as module.function; with a dot first, the module is in the "
        "component's folder.",
        examples=["mysite.reports.make_report", ".report.make_report"],
    )
    patterns: list[Literal["queue", "polling", "cron", "asset"]] = Field(
        default=["queue"],
        min_length=1,
        description="The patterns whose sensors run. With cron or asset, always run queue too.",
    )
    consumer: str = Field(
        default=Environment.consumer,
        description="The name under which the queue sensor claims rows; further lanes have _2, _3 added. {deployment} "
        "in it becomes the id of the Dagster deployment.",
    )
    lanes: int = Field(default=Environment.lanes, description="Queue sensors that wait for rows.")
    lease_seconds: int = Field(
        default=Environment.lease_seconds, description="How long a run keeps its row without a heartbeat."
    )
    max_in_flight: int = Field(default=Environment.max_in_flight, description="The most unfinished rows of each lane.")
    max_unstarted: int = Field(
        default=Environment.max_unstarted, description="The most of these rows that no run has started."
    )
    routes: list[str] | None = Field(
        default=None, description="The routes whose rows are claimed; without it, those of all routes."
    )
    batch_from: int = Field(
        default=Environment.batch_from, description="With this many rows in flight or more, rows share runs."
    )
    batch_size: int = Field(
        default=Environment.batch_size,
        description="The most rows in a run; with 1, every report has a run of its own.",
    )
    batch_runs: int = Field(
        default=Environment.batch_runs,
        description="A claim is divided among so many runs, while few other rows are in flight.",
    )
    cron_interval_seconds: int = Field(
        default=Environment.cron_interval_seconds, description="How often the sensor of cron reads the schedules."
    )

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The code location. Raises `ValueError` if `report` is no function, or for a bound exceeded."""
        environment = Environment(
            patterns=tuple(self.patterns),
            lease_seconds=self.lease_seconds,
            cron_interval_seconds=self.cron_interval_seconds,
            lanes=self.lanes,
            max_in_flight=self.max_in_flight,
            max_unstarted=self.max_unstarted,
            routes=None if self.routes is None else tuple(self.routes),
            batch_from=self.batch_from,
            batch_size=self.batch_size,
            batch_runs=self.batch_runs,
            consumer=self.consumer,
        )
        return define(_function(self.report, context), environment)


def _function(path: str, context: ComponentLoadContext) -> Work:
    relative = path.startswith(".")
    full = f"{context.defs_relative_module_name(context.path)}{path}" if relative else path
    name, _, function = full.rpartition(".")
    try:
        found = getattr(import_module(name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"report names {path!r}, which cannot be imported as {full}: {error}") from error
    if not callable(found):
        raise ValueError(f"report names {path!r}, which is no function.")
    work: Work = found
    return work
