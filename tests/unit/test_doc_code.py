"""The Python in the pages: it is Python, it imports what there is, and the Dagster side's builds its definitions."""

from __future__ import annotations

import ast
from importlib import import_module
from typing import Any

import pytest
from dagster import DefaultSensorStatus

from tests.documents import Block, blocks, pages

OURS = ("reportqueue", "dagster_reportqueue", "reportcron")

BLOCKS = [block for page in pages() for block in blocks(page, "python")]


def execute(code: str, names: dict[str, Any]) -> None:
    """Run a block as a file of its own: without this file's future imports."""
    exec(compile(code, "a block", "exec", dont_inherit=True), names)  # noqa: S102


def test_the_pages_have_code():
    assert {block.page for block in BLOCKS} >= {"README.md", "docs/dagster.md", "docs/django.md"}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_it_imports_what_there_is(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] not in OURS:
            continue
        assert node.module is not None
        module = import_module(node.module)
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            assert node.module != "dagster_reportqueue" or alias.name in module.__all__


@pytest.mark.filterwarnings("ignore:Parameter `owners`")  # Dagster passes it on, itself
def test_the_code_location_of_the_readme_is_whole_and_its_sensors_run():
    (code,) = [one.text for one in blocks("README.md", "python") if "Definitions" in one.text]
    found: dict[str, Any] = {}
    execute(code, found)
    definitions = found["defs"]
    definitions.resolve_job_def("process_report_job")
    assert {sensor.name for sensor in definitions.sensors} == {
        "database_queue_sensor",
        "report_launch_failed",
        "report_launch_cancelled",
        "report_reconciler",
    }
    assert {sensor.default_status for sensor in definitions.sensors} == {DefaultSensorStatus.RUNNING}
    assert set(definitions.resources) == {"report_queue"}


def test_the_code_of_the_dagster_side_builds_what_it_names(monkeypatch: pytest.MonkeyPatch):
    for variable in ("REPORTQUEUE_URL", "REPORTQUEUE_TOKEN"):
        monkeypatch.setenv(variable, "http://127.0.0.1:8000")  # read with the code location, which sets them else
    found: dict[str, Any] = {}
    for block in blocks("docs/dagster.md", "python"):
        execute(block.text, found)
    assert {"my_job", "lanes", "sensors", "cron_sensor", "asset_sensor", "daily_refresh"} <= set(found)
    assert len(found["sensors"]) == len(found["lanes"]) + 3
