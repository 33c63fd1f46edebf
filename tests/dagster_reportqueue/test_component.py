"""The component of `dg`, loaded from its YAML. tests/acceptance/test_dg_project.py has the real `dg`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from dagster import Component, Definitions
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing.utils import DefsFolderSandbox, create_defs_folder_sandbox
from pydantic import ValidationError

from dagster_reportqueue import ReportQueueComponent
from dagster_reportqueue.sensors.consumers import METADATA
from tests.dagster_reportqueue.daemon import ROOT

# Dagster itself uses them when it loads a component from YAML.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class .* is currently in beta:dagster.BetaWarning"),
]
GROUP = "dagster_dg_cli.registry_modules"
TYPE = "dagster_reportqueue.ReportQueueComponent"
REPAIR = {"report_launch_failed", "report_launch_cancelled", "report_reconciler"}
JOBS = {"process_report_job", "process_reports_job", "refresh_report_cron_schedules"}


@pytest.fixture
def sandbox() -> Iterator[DefsFolderSandbox]:
    with create_defs_folder_sandbox() as sandbox:
        yield sandbox


def load(sandbox: DefsFolderSandbox, **attributes: Any) -> Definitions:
    """What the component's YAML with these attributes defines."""
    contents = {"type": TYPE, "attributes": attributes}
    place = sandbox.scaffold_component(ReportQueueComponent, defs_yaml_contents=contents)
    with sandbox.load_component_and_build_defs(place) as (component, definitions):
        assert isinstance(component, ReportQueueComponent)
        assert {job.name for job in definitions.get_repository_def().get_all_jobs()} >= JOBS
        return definitions


def sensors(definitions: Definitions) -> set[str]:
    return {sensor.name for sensor in definitions.sensors or ()}


def test_what_is_scaffolded_loads(sandbox: DefsFolderSandbox):
    place = sandbox.scaffold_component(ReportQueueComponent)
    with sandbox.load_component_and_build_defs(place) as (_, definitions):
        names = {"database_queue_sensor", "database_queue_sensor_2", "database_queue_sensor_3"}
        assert sensors(definitions) == names | REPAIR
        assert set(definitions.resources or ()) == {"report_queue"}


def test_the_attributes_choose_patterns_lanes_and_the_name_of_the_consumer(sandbox: DefsFolderSandbox):
    found = load(
        sandbox,
        report="tests.dagster_reportqueue.location.make",
        patterns=["cron", "queue"],
        consumer="shop",
        lanes=2,
        max_in_flight=10,
        batch_from=5,
        batch_size=20,
        lease_seconds=120,
        cron_interval_seconds=60,
    )
    assert sensors(found) == {"database_queue_sensor", "database_queue_sensor_2", "report_cron_sensor"} | REPAIR
    named = [one.metadata[METADATA].value for one in found.sensors or () if METADATA in one.metadata]
    assert named == ["shop", "shop_2"]
    (cron,) = [sensor for sensor in found.sensors or () if sensor.name == "report_cron_sensor"]
    assert cron.minimum_interval_seconds == 59


@pytest.mark.parametrize("lanes", ["{{ env.LANES }}", "{{ 2 }}", "2"])
def test_a_number_may_be_a_template(sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch, lanes: str):
    monkeypatch.setenv("LANES", "2")
    found = load(sandbox, report="tests.dagster_reportqueue.location.make", lanes=lanes)
    assert sensors(found) == {"database_queue_sensor", "database_queue_sensor_2"} | REPAIR


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"report": "nowhere.make_report"}, "report names 'nowhere.make_report', which cannot be imported"),
        ({"report": ".report.make"}, "report names '.report.make', which cannot be imported as"),
        ({"report": "make_report"}, "report names 'make_report', which cannot be imported"),
        ({"report": "tests.dagster_reportqueue.location.CUSTOMERS"}, "which is no function"),
        ({"report": ".report.make_report", "lanes": 9}, "lanes must be from 1 to 8; it is 9."),
        ({"report": ".report.make_report", "lanes": "many"}, "lanes"),
        ({"report": ".report.make_report", "batch_from": 26}, "batch_from must be from 2 to 25; it is 26."),
        ({"report": ".report.make_report", "lease_seconds": 90_000}, "lease_seconds must be from 5 to 86,400"),
        ({"report": ".report.make_report", "patterns": ["sometimes"]}, "patterns"),
        ({"report": ".report.make_report", "lane": 2}, "lane"),
        ({}, "report"),
    ],
    ids=str,
)
def test_an_attribute_that_cannot_work_is_named(sandbox: DefsFolderSandbox, attributes: dict[str, Any], said: str):
    with pytest.raises((ComponentTreeException, ValidationError)) as error:
        load(sandbox, **attributes)
    causes = [error.value]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    assert any(said in str(one) for one in causes)


def test_the_wheel_registers_the_module_that_has_the_component():
    entries = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    (module,) = entries.values()
    found = import_module(module)
    values = [getattr(found, name) for name in dir(found)]  # as `dg` looks for components
    assert [one for one in values if isinstance(one, type) and issubclass(one, Component)] == [ReportQueueComponent]


def test_dagsters_daemon_loads_no_components_with_the_library():
    code = "import sys, dagster_reportqueue as r; r.build_queue_sensor; print(r.__name__ + '.component' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
