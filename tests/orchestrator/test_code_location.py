"""The demo's code location loads for each pattern, with its sensors by their names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from project.environment import BASE_DIR

SENSORS = {
    "cron": {"report_cron_sensor"},
    "asset": {"smart_cron_sensor"},
    "polling": {"webhook_trigger_sensor"},
    "queue": {"database_queue_sensor", "database_queue_sensor_2", "database_queue_sensor_3"},
}
REPAIR = {"report_launch_failed", "report_launch_cancelled", "report_reconciler"}
PROGRAM = "from orchestrator.definitions import defs; print(*(sensor.name for sensor in defs.sensors))"


def sensors(pattern: str, **environment: str) -> set[str]:
    """In a process of its own: the environment is read when the modules are loaded."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=BASE_DIR,
        env={**os.environ, "REPORT_TRIGGER_PATTERN": pattern, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("pattern", SENSORS)
def test_a_pattern_has_its_own_sensors_and_those_that_repair(pattern: str):
    assert sensors(pattern) == SENSORS[pattern] | (set() if pattern == "polling" else REPAIR)


def test_several_patterns_are_served_side_by_side():
    assert sensors("cron, queue", REPORT_LANES="1") == {"report_cron_sensor", "database_queue_sensor"} | REPAIR


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"REPORT_TRIGGER_PATTERN": "crno"}, "REPORT_TRIGGER_PATTERN has 'crno'"),
        ({"REPORT_LANES": "many"}, "REPORT_LANES must be a whole number from 1 to 8; it is 'many'"),
        ({"REPORT_LEASE_SECONDS": "1"}, "REPORT_LEASE_SECONDS must be from 5 to 86,400; it is 1"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(environment: dict[str, str], said: str):
    with pytest.raises(AssertionError, match=said):
        sensors(environment.pop("REPORT_TRIGGER_PATTERN", "queue"), **environment)
