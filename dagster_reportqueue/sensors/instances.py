"""One Dagster instance for all ticks of a process, and its name. Dagster makes one for each: three connections."""

from __future__ import annotations

import hashlib
import threading
from typing import TypeVar
from weakref import WeakKeyDictionary

from dagster import DagsterInstance, SensorDefinition, SensorEvaluationContext
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.instance import InstanceRef
from dagster._core.storage.runs import SqlRunStorage

from dagster_reportqueue.pooling import close_connections, pool_connections

S = TypeVar("S", bound=SensorDefinition)
_lock = threading.Lock()
_kept: tuple[InstanceRef, DagsterInstance] | None = None
_deployments: WeakKeyDictionary[DagsterInstance, str] = WeakKeyDictionary()


def with_kept_instance(sensor: S) -> S:
    """Let the sensor's ticks use the instance that this process keeps, with its connections."""
    evaluate, copy = sensor.evaluate_tick, sensor.with_attributes

    def evaluate_tick(context: SensorEvaluationContext) -> SensorExecutionData:
        # The resources are made before the sensor's own code runs, and Dagster makes the instance for them.
        if context._instance is None and context.instance_ref is not None:
            context._instance = _instance(context.instance_ref)
        return evaluate(context)

    sensor.evaluate_tick = evaluate_tick  # type: ignore[method-assign]
    # Definitions that bind resources to jobs replace each sensor of these jobs by a copy.
    sensor.with_attributes = lambda **new: with_kept_instance(copy(**new))  # type: ignore[method-assign]
    return sensor


def _instance(ref: InstanceRef) -> DagsterInstance:
    global _kept
    with _lock:
        if _kept is None or _kept[0] != ref:
            if _kept is not None:
                close_connections(_kept[1])
            instance = DagsterInstance.from_ref(ref)
            pool_connections(instance)
            _kept = (ref, instance)
        return _kept[1]


def deployment_of(instance: DagsterInstance) -> str:
    """A short name of the deployment: of the id that its run storage made for itself, or of how that is configured."""
    with _lock:
        if instance not in _deployments:
            storage = instance.run_storage
            if isinstance(storage, SqlRunStorage):
                # Of several processes, each can make an id in a new database. What is read afterwards is the first.
                storage.get_run_storage_id()
                known_as = storage.get_run_storage_id()
            else:
                known_as = repr(instance.get_ref().run_storage_data)
            _deployments[instance] = hashlib.sha256(known_as.encode()).hexdigest()[:8]
        return _deployments[instance]
