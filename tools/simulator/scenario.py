"""One scenario: who takes part, the storm in which faults strike, the calm after it, and the judge's verdict."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from dagster import DagsterRunStatus
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.test import override_settings

from dagster_reportqueue.jobs import build_batch_job, build_report_job
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from reportqueue import signals
from reportqueue.errors import RowBusy
from reportqueue.management.commands.enqueue_due_reports import Command
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import FINAL
from tools.simulator import database as databases
from tools.simulator import faults, judge, people
from tools.simulator.chance import Chance
from tools.simulator.daemon import Deployment, Sensor
from tools.simulator.database import Database
from tools.simulator.door import Door
from tools.simulator.faults import Faults, ProcessFaults
from tools.simulator.history import History
from tools.simulator.instance import Instance
from tools.simulator.judge import Wrong
from tools.simulator.machine import instant, machine
from tools.simulator.network import Network, SimulatedClient, Web
from tools.simulator.outcome import Outcome, Plan
from tools.simulator.people import People, kinds_of_reports
from tools.simulator.runs import Runs
from tools.simulator.world import Task, World

QUIET_SECONDS = 60.0
"""Of the calm, before the schedules are paused."""
CALM_SECONDS = 2_400.0
"""How long everything may take to come to its end after that."""
STUCK_SECONDS = 500.0
"""No lease and no delay is as long: after so long without a move nothing comes any more."""
LOOK_SECONDS = 10.0
PASS_SECONDS = 25.0
"""Between two passes of a scheduler."""


@dataclass
class _Cast:
    """What the seed chose for a scenario."""

    storm: float
    share: float
    kinds: list[str]
    skew: float
    share_bad: float
    seconds: tuple[float, float]
    expand_on_claim: bool
    crowded: bool
    """Whether the schedules' reports take so long that they meet each other, and people act on them."""
    participants: list[str] = field(default_factory=list)


def play(plan: Plan, database: Database) -> Outcome:
    """Play a scenario in an emptied database, and judge it. Call it inside `Stage.open()`."""
    databases.empty()
    scenario = _Scenario(plan, database)
    with scenario.watched(), override_settings(REPORTQUEUE=scenario.settings):
        try:
            scenario.play()
        finally:
            scenario.end()
    return Outcome(
        plan,
        scenario.verdict(),
        scenario.struck.struck,
        scenario.kinds(),
        scenario.cast.participants,
        scenario.history.told,
        scenario.history.digest(),
    )


class _Scenario:
    def __init__(self, plan: Plan, database: Database) -> None:
        self._plan, self._database = plan, database
        self.chance = chance = Chance(plan.seed)
        self.world = world = World(chance)
        machine.begin(world)
        self.history = History(world)
        self.cast = self._chosen()
        self.struck = Faults(chance, self.history, self.cast.kinds, self.cast.share, plan.without)
        database.faults = self.struck
        processes = ProcessFaults(self.struck, chance, self.history)
        world.boundary = processes.boundary
        self._web = Web(world, chance, Door(self.history))
        SimulatedClient.network = Network(world, chance, self.struck, self._web)
        self._instances: list[Instance] = []
        self._people = People(world, chance, self.struck, self.history, database, self._instances)
        self._processes = processes
        self._acting: list[Task] = []
        self._moved = 0.0
        """When the last row moved."""
        self.settings = {**settings.REPORTQUEUE, "EXPAND_ON_CLAIM": self.cast.expand_on_claim}

    # The cast

    def _chosen(self) -> _Cast:
        chance = self.chance
        kinds = chance.some(faults.ALL, chance.pick((0.4, 0.7, 1.0), "share of kinds"), "kinds")
        off = faults.CLOCK_OFF in kinds
        crowded = chance.happens(0.4, "crowded schedules")
        quick = not crowded and chance.happens(0.5, "quick reports")
        return _Cast(
            storm=chance.between(300, 500, "storm") if crowded else chance.between(150, 350, "storm"),
            share=chance.pick((0.1, 0.25, 0.35, 0.5), "share of faults"),
            kinds=kinds,
            skew=chance.pick((-300.0, -90.0, -30.0, 30.0, 90.0, 300.0), "skew") if off else 0.0,
            share_bad=chance.pick((0.0, 0.2, 0.5), "share of bad reports"),
            seconds=(0.05, 0.5) if quick else (0.5, chance.pick((60.0, 120.0) if crowded else (5.0, 40.0), "seconds")),
            expand_on_claim=chance.happens(0.3, "expand on claim"),
            crowded=crowded,
        )

    def _takes_part(self, name: str) -> bool:
        if name in self._plan.without:
            return False
        self.cast.participants.append(name)
        return True

    def play(self) -> None:
        """The storm, the calm, and the end."""
        world, chance, cast = self.world, self.chance, self.cast
        if cast.skew:
            self.struck.note("clock", faults.CLOCK_OFF)
        self._deploy("alpha", batch=False)
        if chance.happens(0.7, "beta") and self._takes_part("beta"):
            self._deploy("beta", batch=True)
        for number in range(1, chance.whole(1, 2, "schedulers") + 1):
            if number == 1 or self._takes_part(f"scheduler {number}"):
                self._scheduler(number, 0)
        self._perform("report", chance.whole(3, 16, "reports"), self._enqueue, last=0.7)
        schedules = (2, 3) if cast.crowded else (0, 1, 2)
        self._perform("schedule", chance.pick(schedules, "schedules"), self._set_schedule, last=0.2)
        self._perform("daily schedule", chance.pick((0, 0, 1), "daily schedules"), self._people.set_daily, last=0.0)
        self._perform("person", chance.whole(8 if cast.crowded else 0, 14, "people"), self._people.act, last=0.9)
        self._perform("trouble", chance.whole(0, 4, "troubles"), self._people.trouble, last=1.0)
        world.run(cast.storm)
        self.struck.active = False
        self.history.tell("", "the faults end")
        world.run(world.now + QUIET_SECONDS)
        closing = world.process("closing")
        closing.killable = False
        world.spawn(closing, "closing", self._close)
        until = world.now + CALM_SECONDS
        while world.now < until:
            world.run(world.now + LOOK_SECONDS)
            if all(task.done for task in closing.tasks) and not self._unfinished():
                break
            if world.now - self._moved > STUCK_SECONDS:
                break
        world.run(world.now + LOOK_SECONDS)

    def _perform(self, part: str, count: int, perform: Callable[[int], None], *, last: float) -> None:
        """Let each participant of a kind act once, at some time of the storm."""
        for number in range(1, count + 1):
            name = f"{part} {number}"
            if self._takes_part(name):
                process = self.world.process(name)
                process.killable = False
                # In three bursts: rows that come together are claimed together.
                burst = self.chance.between(0, last * self.cast.storm, "burst", part, number % 3)
                delay = burst + self.chance.between(0, 8.0, "when", name)
                self._acting.append(self.world.spawn(process, name, partial(perform, number), delay=delay))

    def _enqueue(self, number: int) -> None:
        self._people.enqueue(number, **self._content(f"report {number}", number))

    def _set_schedule(self, number: int) -> None:
        overlap = self.chance.pick((*people.OVERLAPS, "queue_one"), "overlap", number)
        self._people.set_schedule(number, **self._content(f"schedule {number}", 100 + number), overlap=overlap)

    def _content(self, name: str, number: int) -> dict[str, Any]:
        return {
            "kind": kinds_of_reports(self.chance, number, self.cast.share_bad),
            "seconds": self.cast.seconds,
            "attempts": self.chance.whole(1, 3, "attempts", name),
        }

    def _close(self) -> None:
        """Pause all schedules once nobody acts any more, who might resume one."""
        while any(not task.done for task in self._acting):
            self.world.sleep(LOOK_SECONDS)
        for pk in self._people.schedules():
            self._people.call("POST", f"/api/schedules/{pk}/pause/")

    def _unfinished(self) -> bool:
        return ReportQueue.objects.exclude(status__in=FINAL).exists()

    def _deploy(self, name: str, *, batch: bool) -> None:
        skew = self.cast.skew
        tells = self.chance.happens(0.5, "tells", name)
        instance = Instance(self.world, self.history, name, skew, tells_who_waits=tells)
        runs = Runs(self.world, self.chance, self.struck, self.history, instance, skew)
        instance.terminate = runs.terminate
        self._processes.terminate = runs.terminate
        self._instances.append(instance)
        Deployment(
            self.world,
            self.chance,
            self.struck,
            self.history,
            instance,
            name=name,
            skew=skew,
            sensors=partial(_sensors, name, batch=batch),
            launch=runs.launch,
            slots=self.chance.whole(1, 4, "slots", name),
        )

    def _scheduler(self, number: int, starts: int) -> None:
        world = self.world
        name = f"scheduler {number}"
        process = world.process(name)
        process.on_death.append(
            lambda: world.later(
                self.chance.between(1, 90, "restart", name, starts),
                f"restart {name} {starts}",
                lambda: self._scheduler(number, starts + 1),
            )
        )
        world.spawn(process, f"{name}.{starts}", self._passes, delay=self.chance.between(0, 20, name, starts))

    def _passes(self) -> None:
        command = Command(stdout=io.StringIO())
        while True:
            self.world.pause()
            since = self.world.now
            try:
                done = command._pass(quiet=True)
                whole = done.put_off == 0 and self._people.locked_until < since
                self.history.write("pass", since=since, whole=whole)
            except (OperationalError, InterfaceError):
                connection.close()
            except RowBusy:
                pass  # the command logs it and goes on
            self.world.sleep(PASS_SECONDS)

    # What was seen

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Errors that the product logs are part of the history, its transitions of the story."""

        def moved(sender: Any, transition: Any, **_: Any) -> None:
            self._moved = self.world.now
            before, after = transition.before or "new", transition.after
            self.history.tell("queue", f"row {transition.queue_id}: {before} -> {after} ({transition.verb})")

        handler = _Errors(self.history)
        loggers = [logging.getLogger(name) for name in ("reportqueue", "django.request")]
        for logger in loggers:
            logger.addHandler(handler)
        signals.transitioned.connect(moved)
        try:
            yield
        finally:
            signals.transitioned.disconnect(moved)
            for logger in loggers:
                logger.removeHandler(handler)

    def end(self) -> None:
        """Kill everything."""
        self.struck.active = False
        self._database.release()
        self._final = self.world.now
        self.world.end()

    def kinds(self) -> dict[str, int]:
        """How often each kind of fault struck."""
        found: dict[str, int] = {}
        for line in self.history.lines:
            if line["kind"] == "fault":
                found[line["point"]] = found.get(line["point"], 0) + 1
        return found

    def verdict(self) -> list[Wrong]:
        """Everything that is wrong with the end."""
        for name, error in self.world.failed:
            self.history.write("broken", text=f"{name}: {type(error).__name__}: {error}")
        rows = [judge.Row(**values) for values in ReportQueue.objects.order_by("pk").values(*judge.ROW_FIELDS)]
        attempts = [
            judge.Attempt(**values) for values in ReportAttempt.objects.order_by("pk").values(*judge.ATTEMPT_FIELDS)
        ]
        return judge.judge(self.history.lines, rows, attempts, instant)


class _Errors(logging.Handler):
    def __init__(self, history: History) -> None:
        super().__init__(logging.ERROR)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        """An error in the log was not silent, but nobody expects one."""
        if record.name == "django.request" and not record.exc_info:
            return  # a 503, which callers expect
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._history.write("broken", text=" ".join(text.split())[:400])


@cache
def _jobs() -> tuple[Any, Any]:
    return build_report_job(lambda run: None), build_batch_job(lambda run: None)


def _sensors(name: str, *, batch: bool) -> Sequence[Sensor]:
    """The product's sensors of a deployment, as a code server that has just started builds them."""
    job, batch_job = _jobs()
    consumer = f"{name}_queue"
    options = {"batch_job": batch_job, "batch_from": 2, "batch_size": 8, "max_in_flight": 20} if batch else {}
    queue_sensor = build_queue_sensor(job, name=consumer, limit=5, **options)
    failed, cancelled, reconciler = build_repair_sensors(consumers=[consumer])
    return [
        Sensor(consumer, _function(queue_sensor), 25.0),
        Sensor(f"{name}_failed", _function(failed), 20.0, DagsterRunStatus.FAILURE),
        Sensor(f"{name}_cancelled", _function(cancelled), 20.0, DagsterRunStatus.CANCELED),
        Sensor(f"{name}_reconciler", _function(reconciler), 70.0),
    ]


def _function(sensor: Any) -> Any:
    """The product's own function of a sensor."""
    return getattr(sensor, "_run_status_sensor_fn", None) or sensor._raw_fn
