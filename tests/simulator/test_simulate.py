"""A run of the simulator as anybody starts it; a replay is exact; a fault that is put back is found."""

from __future__ import annotations

import subprocess
import sys

import pytest

from project.environment import BASE_DIR
from tools.runner import arguments
from tools.simulator import mutations


def simulate(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it on the tests' server, in databases of its own."""
    command = [sys.executable, "-m", "tools.simulator", *options]
    return subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("faults", [500, 2_000])
def test_nothing_is_lost_made_twice_stuck_or_silent_in_so_many_faults(faults: int):
    done = simulate("--seed", "1", "--faults", str(faults))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost, made twice, stuck or silent." in done.stdout


def test_a_scenario_is_the_same_each_time():
    first, again = (simulate("--seed", "77", "--scenario", "1") for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    told = [done.stdout.split("\nfault ")[0] for done in (first, again)]
    assert told[0] == told[1]
    assert "begins row" in told[0]


@pytest.mark.timeout(600)
def test_a_mended_fault_that_is_put_back_is_found_and_told_as_a_short_story():
    done = simulate("--seed", "1", "--faults", "2000", "--put-back", "a-row-at-its-last-generation-stops-all-claims")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "row at its last generation" in done.stdout
    assert "python3 run.py simulate --seed 1 --scenario" in done.stdout


def test_a_name_that_is_not_known_is_refused_with_the_names():
    done = simulate("--put-back", "nothing")
    assert done.returncode == 2
    assert all(name in done.stderr for name in mutations.NAMES)


def test_the_runner_takes_the_options(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "simulate", "--seed", "3", "--faults", "500"])
    chosen = arguments.parse()
    assert (chosen.command, chosen.seed, chosen.faults, chosen.scenario) == ("simulate", 3, 500, None)
    monkeypatch.setattr(sys, "argv", ["run.py", "simulate", "--scenario", "3"])
    with pytest.raises(SystemExit):
        arguments.parse()
