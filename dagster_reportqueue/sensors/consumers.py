"""The consumers of a code location: the names under which its queue sensors claim rows, which their metadata say."""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterInstance, MetadataValue, SensorEvaluationContext

from dagster_reportqueue.sensors.instances import deployment_of
from dagster_reportqueue.sensors.ticks import TickFailed

METADATA = "reportqueue/consumer"
DEFAULT = "database_queue_sensor"
"""The name of a queue sensor, and of its consumer, unless others are given."""
DEPLOYMENT = "{deployment}"
"""A part of a consumer's name that each deployment of Dagster replaces by its own."""


def name_in(instance: DagsterInstance, consumer: str) -> str:
    """The consumer's name in this deployment."""
    return consumer.replace(DEPLOYMENT, deployment_of(instance)) if DEPLOYMENT in consumer else consumer


def of_location(context: SensorEvaluationContext) -> list[str]:
    """The consumers of all queue sensors of the tick's code location; the default one if the tick has no location."""
    if context.repository_def is None:
        return [DEFAULT]
    return [name_in(context.instance, consumer) for _, consumer in _named(context)]


def refuse_namesakes(context: SensorEvaluationContext, name: str, consumer: str) -> None:
    """Raises `TickFailed` if another sensor of the code location is the same consumer.

    Each of the two would get the other one's claim again, and launch a run for each row under a key of its own.
    """
    for other, same in _named(context):
        if other != name and same == consumer:
            raise TickFailed(
                f"The sensors {name} and {other} are one consumer, {consumer!r}: each would launch a run for each row. "
                "Give each of them a name or a consumer of its own."
            )


def _named(context: SensorEvaluationContext) -> Iterator[tuple[str, str]]:
    """The name of each queue sensor, and its consumer."""
    for one in context.repository_def.sensor_defs if context.repository_def is not None else ():
        value = one.metadata.get(METADATA)
        if isinstance(value, MetadataValue) and isinstance(value.value, str):
            yield one.name, value.value
