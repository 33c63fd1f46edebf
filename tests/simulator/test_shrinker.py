"""The shrinker leaves out what does not matter, and nothing else."""

from __future__ import annotations

from tools.simulator.judge import STUCK, TWICE, Wrong
from tools.simulator.outcome import Outcome, Plan
from tools.simulator.shrinker import shrink

PARTS = [f"report {number}" for number in range(12)]
FAULTS = [f"web#{number}" for number in range(40)]


class Stage:
    """Plays plans: something is wrong while all of `needed` take part."""

    def __init__(self, *needed: str, kind: str = TWICE) -> None:
        self.needed, self.kind = needed, kind
        self.plays = 0

    def play(self, plan: Plan) -> Outcome:
        """A scenario without a database."""
        self.plays += 1
        bad = not plan.without & set(self.needed)
        # Without the first fault something else is wrong, which is not what is looked for.
        other = FAULTS[0] in plan.without
        wrong = [Wrong(self.kind, 1, "went wrong")] if bad else [Wrong(STUCK, 2, "another thing")] if other else []
        faults = [name for name in FAULTS if name not in plan.without]
        parts = [name for name in PARTS if name not in plan.without]
        return Outcome(plan, wrong, faults, {}, parts, [], "")


def test_what_does_not_matter_is_left_out():
    stage = Stage("report 3", "web#7", "web#31")
    small = shrink(stage.play(Plan("seed")), stage.play)
    assert (small.participants, small.faults) == (["report 3"], ["web#7", "web#31"])
    assert [wrong.kind for wrong in small.wrong] == [TWICE]


def test_a_scenario_that_needs_nothing_becomes_empty():
    stage = Stage()
    small = shrink(stage.play(Plan("seed")), stage.play)
    assert (small.participants, small.faults) == ([], [])


def test_a_bound_on_the_plays_is_kept_and_what_is_left_is_still_wrong():
    stage = Stage("report 3", "web#7", "web#31")
    small = shrink(stage.play(Plan("seed")), stage.play, most=3)
    assert stage.plays == 4
    assert small.wrong
