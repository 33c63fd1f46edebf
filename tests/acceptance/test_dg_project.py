"""A project that Dagster's own tools scaffold, called `orchestrator` as the demo's is, with the wheel.

Its component makes a report, and the asset of docs/dagster.md makes another one as its partition.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import short_folder
from tests.acceptance.demos import clean_environment, http, processes_on, wait_for
from tests.acceptance.roads import Road
from tests.acceptance.terminals import Terminal
from tests.documents import Block, blocks
from tools.runner.environments import SYSTEM_CERTIFICATES
from tools.runner.stack import answers, free_port

pytestmark = pytest.mark.timeout(1800)  # an installation takes long on a busy machine
PAGE = "docs/dagster.md"
COMPONENT = "dagster_reportqueue.ReportQueueComponent"
INSTANCE = "telemetry: {enabled: false}\nsensors: {use_threads: true, num_workers: 8}\n"
LANES = ("database_queue_sensor", "database_queue_sensor_2", "database_queue_sensor_3")
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "orchestrator"}
START = "mutation($chosen: SensorSelector!) {startSensor(sensorSelector: $chosen) {__typename}}"
STATE = "query($chosen: SensorSelector!) {sensorOrError(sensorSelector: $chosen) {... on Sensor {id sensorState {id}}}}"
STOP = "mutation($id: String!) {stopSensor(id: $id) {__typename}}"
PARTITIONS = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {... on AssetNode {partitionStats {numMaterialized}}}
}
"""


class Project:
    """The project in its folder, and a terminal in it."""

    def __init__(self, folder: Path, wheel: Path, pinned: Path, road: Road) -> None:
        variables = clean_environment(
            UV_CONSTRAINT=str(pinned),
            **SYSTEM_CERTIFICATES,
            DAGSTER_HOME=str(folder / "home"),
            REPORTQUEUE_URL=f"{road.address}/api",
            REPORTQUEUE_TOKEN=road.token("dagster"),
        )
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(INSTANCE)
        self.terminal = Terminal(folder, variables)
        self.defs = folder / "orchestrator" / "src" / "orchestrator" / "defs"
        self.port = free_port()
        version = re.findall(r"^dagster==(\S+)", pinned.read_text(), re.MULTILINE)[0]
        tools = f"dagster-webserver dagster-dg-cli=={version} create-dagster=={version}"
        uv = f"'{Path(sys.executable).parent / 'uv'}'"
        self.terminal.run(
            f"{uv} venv --quiet --python '{sys.executable}' .venv && . .venv/bin/activate\n"
            f"{uv} pip install --quiet '{wheel}[dagster]' {tools}\n"
            "create-dagster project orchestrator --no-uv-sync\n"
            "cd orchestrator\n"
            f"{uv} pip install --quiet --editable ."
        )

    def graphql(self, query: str, **variables: Any) -> Any:
        """Data from Dagster's UI."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        answer = http("POST", f"http://127.0.0.1:{self.port}/graphql", body, **{"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        assert "errors" not in answer.json(), answer.body
        return answer.json()["data"]

    def start(self, sensor: str) -> None:
        """Switch a sensor on, as people do in the UI."""
        done = self.graphql(START, chosen={**SELECTOR, "sensorName": sensor})
        assert done == {"startSensor": {"__typename": "Sensor"}}, done

    def stop(self, sensor: str) -> None:
        """Switch a sensor off."""
        found = self.graphql(STATE, chosen={**SELECTOR, "sensorName": sensor})["sensorOrError"]
        done = self.graphql(STOP, id=found["sensorState"]["id"])
        assert done == {"stopSensor": {"__typename": "StopSensorMutationResult"}}, done


@pytest.fixture(scope="module")
def project(wheel: Path, pinned: Path, road: Road) -> Iterator[Project]:
    """Scaffolded and installed; its queue is that of the README's web app."""
    road.follow_django_side()
    road.dagster.stop()
    with short_folder() as folder:
        scaffolded = Project(folder, wheel, pinned, road)
        try:
            yield scaffolded
        finally:
            scaffolded.terminal.stop()
            left = processes_on(folder)
    assert not left, "Ctrl-C has left these"


def block_of(section: str, language: str) -> Block:
    """The block of the page."""
    (found,) = [block for block in blocks(PAGE, language) if block.section == section]
    return found


def test_its_component_and_an_asset_make_reports(project: Project, road: Road):
    dg = project.terminal
    assert COMPONENT in dg.run("dg list components")
    dg.run(block_of("A component", "sh").text)
    assert (project.defs / "reports" / "report.py").exists()
    (project.defs / "reports" / "defs.yaml").write_text(block_of("A component", "yaml").text)
    asset = block_of("Reports as assets", "python").text.splitlines(keepends=True)
    # The component has the repair sensors.
    (project.defs / "invoices.py").write_text("".join(line for line in asset if "repair" not in line[:20]))
    dg.run("dg check defs")
    dg.serve(f"dg dev --port {project.port}", lambda: answers(f"http://127.0.0.1:{project.port}/server_info"))

    by_component = road.enqueue(3, 1)
    wait_for("the component's report", lambda: road.row(by_component)["status"] == "succeeded", 600)
    assert road.row(by_component)["result"] == {"title": "Report 3 of modifier 1"}

    for lane in LANES:  # they claim every due row
        project.stop(lane)
    project.start("invoice_sensor")

    def by_asset(customer: int) -> bool:
        row = road.enqueue(3, customer)
        wait_for(f"the report of customer {customer}", lambda: road.row(row)["status"] == "succeeded", 600)
        address = f"https://example.com/invoices/{customer}.pdf"
        return bool(road.row(row)["result"] == {"artifacts": {"invoices.pdf": address}})

    # Each lane may still be in its last tick, which claims one more row.
    assert any(by_asset(customer) for customer in range(2, 3 + len(LANES)))

    def materialized(asset: str) -> int:
        node = project.graphql(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        return int(node["partitionStats"]["numMaterialized"])

    wait_for("both assets", lambda: materialized("invoices") == materialized("invoice_totals") > 0, 300)
