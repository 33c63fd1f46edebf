"""Virtual time: who is next, who dies, who is frozen, and that all of it is the same each time."""

from __future__ import annotations

import random
import sys
import time
from uuid import uuid4

import pytest

from tools.simulator import machine
from tools.simulator.chance import Chance
from tools.simulator.world import Process, World


@pytest.fixture
def world() -> World:
    """A world in which nothing happens by itself."""
    return World(Chance("a seed"))


def test_tasks_go_on_in_the_order_of_their_times(world: World):
    seen: list[tuple[str, float]] = []

    def act(name: str, seconds: float) -> None:
        for _ in range(2):
            world.sleep(seconds)
            seen.append((name, world.now))

    process = world.process("one")
    world.spawn(process, "slow", lambda: act("slow", 3.0))
    world.spawn(process, "quick", lambda: act("quick", 2.0))
    world.run(10)
    assert seen == [("quick", 2.0), ("slow", 3.0), ("quick", 4.0), ("slow", 6.0)]
    assert world.now == 10
    world.end()


def test_what_a_seed_chose_is_chosen_again():
    def order(seed: str) -> list[str]:
        world, seen = World(Chance(seed)), []

        def act(name: str) -> None:
            for _ in range(5):
                world.pause()
                seen.append(name)

        for name in ("a", "b", "c"):
            world.spawn(world.process(name), name, lambda name=name: act(name))
        world.run(100)
        world.end()
        return seen

    assert order("one") == order("one")
    assert len({tuple(order(str(seed))) for seed in range(5)}) > 1


def test_a_killed_process_does_nothing_more(world: World):
    seen: list[str] = []
    victim = world.process("victim")

    def work() -> None:
        try:
            world.sleep(5)
            seen.append("worked")
        except BaseException:
            world.sleep(1)  # what handles an error has no effect either
            seen.append("handled")

    world.spawn(victim, "work", work)
    world.later(2, "killer", lambda: world.kill(victim))
    world.run(20)
    assert seen == []
    assert victim.gone
    world.end()


def test_a_frozen_process_goes_on_later_and_the_others_now(world: World):
    seen: list[tuple[str, float]] = []
    frozen, other = world.process("frozen"), world.process("other")

    def act(name: str) -> None:
        world.sleep(1)
        seen.append((name, world.now))

    world.freeze(frozen, 7)
    for process in (frozen, other):
        world.spawn(process, process.name, lambda name=process.name: act(name))
    world.run(20)
    assert seen[0] == ("other", 1.0)
    assert seen[1] == ("frozen", 8.0)
    world.end()


def test_a_signal_interrupts_a_sleep_and_is_handled_in_the_main_task(world: World):
    seen: list[float] = []

    def handle(number: int, frame: object) -> None:
        seen.append(world.now)
        raise InterruptedError

    def work() -> None:
        try:
            world.sleep(100)
        except InterruptedError:
            seen.append(world.now)

    process: Process = world.process("one")
    process.handlers[15] = handle
    world.spawn(process, "main", work)
    world.later(3, "sender", lambda: world.signal(process, 15))
    world.run(200)
    assert len(seen) == 2
    assert all(3 < at < 3.1 for at in seen)
    world.end()


def test_a_wait_ends_when_it_is_over_or_when_its_time_is_up(world: World):
    seen: list[tuple[bool, float]] = []
    box: list[int] = []
    waiters: list[object] = []
    process = world.process("one")
    world.spawn(process, "first", lambda: seen.append((world.wait_for(lambda: bool(box), waiters, 2), world.now)))  # type: ignore[arg-type]
    world.spawn(process, "second", lambda: seen.append((world.wait_for(lambda: bool(box), waiters, 50), world.now)))  # type: ignore[arg-type]

    def fill() -> None:
        box.append(1)
        world.wake(waiters)  # type: ignore[arg-type]

    world.later(5, "filler", fill)
    world.run(100)
    assert [done for done, _ in seen] == [False, True]
    assert [round(at, 1) for _, at in seen] == [2.0, 5.0]
    world.end()


def test_an_error_that_nobody_expects_is_kept(world: World):
    def fail() -> None:
        raise LookupError("no such thing")

    world.spawn(world.process("one"), "failing", fail)
    world.run(1)
    ((name, error),) = world.failed
    assert name == "failing"
    assert isinstance(error, LookupError)
    world.end()


def test_no_module_of_the_app_has_a_real_clock_or_real_chance():
    """One that had them would do its work in other moments of a scenario each time."""
    with machine.installed():
        real = [
            (name, key)
            for name, module in sys.modules.items()
            if name.startswith("reportqueue.")
            for key, value in vars(module).items()
            if value is time or value is random or value is uuid4
        ]
    assert real == []
