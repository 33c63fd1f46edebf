"""Dagster's daemon and code server of one deployment: sensors' ticks, the run queue, run monitoring.

Dagster's rules for a tick: it is created as started; the sensor is evaluated in the code server, for at most 60 s; its
run requests are stored together with the cursor; the runs are created, unless their run key is known, and submitted;
the cursor becomes the sensor's at the end. A started tick whose requests are stored is resumed. A failed one is
retried once, then what is left of it is dropped and the cursor stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from dagster import DagsterRunStatus, RunRequest, SensorResult

from dagster_reportqueue.sensors.ticks import TickFailed
from tools.simulator import faults
from tools.simulator.chance import Chance
from tools.simulator.faults import Faults
from tools.simulator.history import History
from tools.simulator.instance import Instance, Record
from tools.simulator.network import Resource
from tools.simulator.world import Process, Task, World

EVALUATION_SECONDS = 60.0
RESTART_SECONDS = (1.0, 60.0)
FAILURES_RETRIED = 1
EVENTS_A_TICK = 5
"""Runs that a run status sensor is told of in one tick."""


@dataclass
class Sensor:
    """A sensor: the product's function, and how often it is evaluated."""

    name: str
    function: Callable[..., Any]
    seconds: float
    of_ended_runs: DagsterRunStatus | None = None
    """The status of the runs that a run status sensor is told of."""


@dataclass
class Tick:
    """A tick as the storage has it."""

    status: str = "started"
    failures: int = 0
    requests: list[tuple[str, RunRequest]] = field(default_factory=list)
    submitted: set[str] = field(default_factory=set)
    cursor: str | None = None

    @property
    def left(self) -> list[tuple[str, RunRequest]]:
        """The requests that were not submitted yet."""
        return [(run_id, request) for run_id, request in self.requests if run_id not in self.submitted]


@dataclass
class _Stored:
    """What the storage knows of a sensor."""

    cursor: str | None = None
    tick: Tick | None = None
    ticks: int = 0
    told: int = 0
    """How many ended runs a run status sensor was told of."""


class Deployment:
    """One Dagster: a storage that stays, and a daemon and a code server that die and come again."""

    def __init__(
        self,
        world: World,
        chance: Chance,
        struck: Faults,
        history: History,
        instance: Instance,
        *,
        name: str,
        skew: float,
        sensors: Callable[[], Sequence[Sensor]],
        launch: Callable[[Record], Process],
        slots: int,
    ) -> None:
        self._world, self._chance, self._faults, self._history = world, chance, struck, history
        self.instance = instance
        self.name = name
        self._skew = skew
        self._sensors = sensors
        self._launch = launch
        self._slots = slots
        self._stored: dict[str, _Stored] = {}
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start the daemon and its code server; what they remembered is gone."""
        self._starts += 1
        suffix = f" {self._starts}" if self._starts > 1 else ""
        self._code = self._world.process(f"{self.name} code{suffix}", skew=self._skew)
        self._daemon = self._world.process(f"{self.name} daemon{suffix}", skew=self._skew)
        self._daemon.on_death.append(self._again)
        for sensor in self._sensors():
            state = self._stored.setdefault(sensor.name, _Stored())
            offset = self._chance.between(0, sensor.seconds, "offset", sensor.name, self._starts)
            self._world.spawn(
                self._daemon, f"{self._daemon.name}/{sensor.name}", self._loop(sensor, state), delay=offset
            )
        self._world.spawn(self._daemon, f"{self._daemon.name}/queue", self._dequeue)
        self._world.spawn(self._daemon, f"{self._daemon.name}/monitor", self._monitor)

    def _again(self) -> None:
        seconds = self._chance.between(*RESTART_SECONDS, "restart", self.name, self._starts)
        self._world.later(seconds, f"restart {self.name} {self._starts}", self.start)

    # Ticks

    def _loop(self, sensor: Sensor, state: _Stored) -> Callable[[], None]:
        def loop() -> None:
            while True:
                if sensor.of_ended_runs is not None:
                    self._tell_of_ended(sensor, state)
                else:
                    self._tick(sensor, state)
                self._world.sleep(sensor.seconds)

        return loop

    def _tick(self, sensor: Sensor, state: _Stored) -> None:
        tick = state.tick
        if tick is not None and tick.status == "started" and tick.left:
            self._history.tell(self.name, f"{sensor.name}: its tick is resumed")
        elif tick is not None and tick.status == "failed" and tick.left and tick.failures <= FAILURES_RETRIED:
            self._history.tell(self.name, f"{sensor.name}: its failed tick is retried")
            tick.status = "started"
        else:
            tick = state.tick = Tick()
            state.ticks += 1
        self._world.pause()
        try:
            if not tick.left:
                result = self._evaluated(sensor, state)
                self._world.pause()
                tick.cursor = result.cursor if isinstance(result, SensorResult) else None
                requests = list(result.run_requests or []) if isinstance(result, SensorResult) else []
                tick.requests = [(self._run_id(state, place), request) for place, request in enumerate(requests)]
                self._world.pause()
            self._submit(sensor, tick)
        except TickFailed as error:
            tick.status, tick.failures = "failed", tick.failures + 1
            self._history.tell(self.name, f"{sensor.name}: its tick failed: {error}")
            return
        tick.status = "success"
        if tick.cursor is not None:
            state.cursor = tick.cursor
        self._world.pause()

    def _run_id(self, state: _Stored, place: int) -> str:
        return f"{self.name}-{state.ticks}-{place}"

    def _evaluated(self, sensor: Sensor, state: _Stored, **context: Any) -> Any:
        """Evaluate in the code server. The evaluation goes on if the daemon dies or gives up."""
        box: list[Any] = []
        waiting: list[Task] = []
        given = SimpleNamespace(
            cursor=state.cursor,
            instance=self.instance,
            repository_def=None,
            log=_Log(self._history, self.name),
            **context,
        )

        def evaluate() -> None:
            try:
                box.append(sensor.function(given, report_queue=Resource()))
            except TickFailed as error:
                box.append(error)
            self._world.wake(waiting)

        if self._code.dead:
            self._code = self._world.process(f"{self._code.name}+", skew=self._skew)
        name = f"{self._code.name}/{sensor.name} {state.ticks}.{state.told}"
        task = self._world.spawn(self._code, name, evaluate)
        done = self._world.wait_for(lambda: bool(box) or task.done, waiting, EVALUATION_SECONDS)
        if not done or not box:
            raise TickFailed("the evaluation did not end in time")
        if isinstance(box[0], TickFailed):
            raise box[0]
        return box[0]

    def _submit(self, sensor: Sensor, tick: Tick) -> None:
        known = self.instance.known(sensor.name)
        for run_id, request in tick.left:
            record = known.get(request.run_key) if request.run_key else None
            if record is None:
                record = self.instance.create(run_id, sensor.name, request)
                self._world.pause()
            elif record.dagster_run.status != DagsterRunStatus.NOT_STARTED:
                self._history.tell(self.name, f"run key {request.run_key} is known: no run")
                tick.submitted.add(run_id)
                continue
            task = self._world.current
            assert task is not None
            if self._faults.strike([faults.TICK_FAILS], task):
                raise TickFailed("the runs could not be submitted")
            self.instance.to(record.dagster_run.run_id, DagsterRunStatus.QUEUED)
            tick.submitted.add(run_id)
            self._world.pause()

    def _tell_of_ended(self, sensor: Sensor, state: _Stored) -> None:
        for run_id in self.instance.ended[state.told : state.told + EVENTS_A_TICK]:
            record = self.instance.records[run_id]
            run = record.dagster_run
            # An error does not stop the cursor: the sensor is not told of this run again.
            state.told += 1
            if run.status != sensor.of_ended_runs:
                continue
            try:
                event = SimpleNamespace(message=f"Run {run_id} is {run.status.value}.")
                self._evaluated(sensor, state, dagster_run=run, dagster_event=event)
            except TickFailed as error:
                self._history.tell(self.name, f"{sensor.name}: its tick failed: {error}")

    # Runs

    def _dequeue(self) -> None:
        """Launch queued runs while there are slots, in the order of their creation."""
        while True:
            busy = len(self.instance.unfinished(DagsterRunStatus.STARTING, DagsterRunStatus.STARTED))
            for record in self.instance.unfinished(DagsterRunStatus.QUEUED)[: max(0, self._slots - busy)]:
                self._world.pause()
                run_id = record.dagster_run.run_id
                if record.dagster_run.status != DagsterRunStatus.QUEUED:
                    continue
                self.instance.to(run_id, DagsterRunStatus.STARTING)
                self._world.pause()
                task = self._world.current
                assert task is not None
                kind = self._faults.strike(faults.LAUNCH, task)
                if kind == faults.LAUNCH_FAILED:
                    self.instance.to(run_id, DagsterRunStatus.FAILURE)
                elif kind != faults.RUN_LOST:
                    record.process = self._launch(record)
            self._world.sleep(2.0)

    def _monitor(self) -> None:
        """Notice runs whose process is dead, after a while."""
        while True:
            self._world.sleep(20.0)
            active = (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
            for record in self.instance.unfinished(*active):
                silent = self.instance.age(record) > 60.0
                if (record.process is None and silent) or (record.process is not None and record.process.gone):
                    canceling = record.dagster_run.status == DagsterRunStatus.CANCELING
                    status = DagsterRunStatus.CANCELED if canceling else DagsterRunStatus.FAILURE
                    self.instance.to(record.dagster_run.run_id, status)


class _Log:
    """A sensor's or a run's log."""

    def __init__(self, history: History, who: str) -> None:
        self._history, self._who = history, who

    def info(self, text: str) -> None:
        """Of no interest."""

    def warning(self, text: str) -> None:
        """Part of the story."""
        self._history.tell(self._who, str(text))

    error = warning


def log_for(history: History, who: str) -> Any:
    """A log whose warnings become part of the story."""
    return _Log(history, who)
