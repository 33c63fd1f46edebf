"""docs/settings.md names the settings that the code has, with their defaults, and no others."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster_celery.launcher import CeleryRunLauncher

from dagster_reportqueue import Environment, build_queue_sensor, environment
from dagster_reportqueue.celery_launcher import ReportCeleryRunLauncher
from dagster_reportqueue.sensors.queue_sensor import LANE_WAITS
from dagster_reportqueue.warm.launcher import WarmRunLauncher
from reportqueue.conf import Conf

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()


class RecordedVariables(dict[str, str]):
    """An environment that remembers which of its variables were read."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, *default: Any) -> Any:
        self.read.add(name)
        return super().get(name, *default)

    def setdefault(self, name: str, *default: Any) -> Any:
        self.read.add(name)
        return super().setdefault(name, *default)

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> RecordedVariables:
    """The environment of the code location: empty."""
    variables = RecordedVariables()
    monkeypatch.setattr(environment, "os", SimpleNamespace(environ=variables))
    return variables


def table(heading: str) -> dict[str, list[str]]:
    """The first cell's code to the other cells, of the table below a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    named = [(re.findall(r"`(\w+)`", first), [cell.strip() for cell in rest]) for first, *rest in rows]
    assert all(len(names) == 1 for names, _ in named)
    assert len(named) == len({names[0] for names, _ in named})
    return {names[0]: rest for names, rest in named}


def written(value: Any) -> str:
    """A default as the page writes it."""
    if value in (None, ()):
        return "none"
    if value == "":
        return "empty"
    if callable(value):
        return f"`{value.__name__}`"
    if isinstance(value, Enum):
        return f"`{value.name}`"
    if isinstance(value, bool | str):
        return f"`{value}`"
    return format(value, "g") if isinstance(value, float) else str(value)


def test_the_django_side_has_the_keys_of_the_settings_with_their_defaults():
    assert {key: rest[0] for key, rest in table("The Django side").items()} == {
        field.name.upper(): written(field.default) for field in fields(Conf)
    }


def test_the_dagster_side_has_the_variables_that_are_read(variables: RecordedVariables):
    Environment.read()
    assert set(table("The Dagster side")) == variables.read


def test_the_dagster_side_has_the_defaults(variables: RecordedVariables):
    assert Environment.read() == Environment()
    for name, (default, _) in table("The Dagster side").items():
        if name in variables:
            assert default == written(variables[name]), name  # the code location gets it from the first reading
    numbers = [name for name in table("The Dagster side") if name not in variables]
    for name in numbers:
        default = table("The Dagster side")[name][0].strip("`")
        variables[name] = "" if default == "empty" else default
        assert Environment.read() == Environment(), name


def test_the_queue_sensor_has_its_arguments_with_their_defaults():
    documented = {name: rest[0] for name, rest in table("`build_queue_sensor`").items()}
    assert documented == {
        name: written(parameter.default)
        for name, parameter in inspect.signature(build_queue_sensor).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def test_the_queue_sensor_has_what_a_whole_code_location_passes():
    passed = {name: rest[1] for name, rest in table("`build_queue_sensor`").items()}
    defaults = Environment()
    lanes = LANE_WAITS[: defaults.lanes]
    assert passed["wait_seconds"] == ", ".join(format(seconds, "g") for seconds in lanes)
    for name in ("max_in_flight", "batch_from", "batch_size", "batch_runs"):
        assert passed[name] == str(getattr(defaults, name)), name


def test_the_launcher_has_the_keys_of_its_config_with_their_defaults():
    documented = {name: rest[0] for name, rest in table("The warm launcher").items()}
    assert set(documented) == set(WarmRunLauncher.config_type())
    parameters = inspect.signature(WarmRunLauncher).parameters
    assert documented.pop("max_runs") == "cores + 1"
    assert WarmRunLauncher()._max_runs == (os.cpu_count() or 1) + 1
    assert documented == {name: written(parameters[name].default) for name in documented}


def test_the_celery_launcher_has_the_keys_of_its_config_with_their_defaults():
    documented = {name: rest[0] for name, rest in table("The Celery launcher").items()}
    assert set(documented) == set(ReportCeleryRunLauncher.config_type()) - set(CeleryRunLauncher.config_type())
    parameters = inspect.signature(ReportCeleryRunLauncher).parameters
    assert documented == {name: written(parameters[name].default) for name in documented}
