"""Executes the blocks of a page about Dagster as parts of one code location, in an environment without the project.

`python their_page.py parts.json`, a list of names and code. Each report code makes a report with a queue in memory.
Each sensor in `LAUNCHING` gets a row of the real queue, and makes it.
"""

import json
import os
import sys
from pathlib import Path

import dagster as dg
import requests

from dagster_reportqueue import ReportQueueResource, build_report_job
from dagster_reportqueue.testing import InMemoryQueue

URL = os.environ["REPORTQUEUE_URL"]
RENDER = """
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    customer = pipes.get_extra("customer")
    pipes.report_custom_message({"artifacts": {"report.pdf": f"https://example.com/{customer}.pdf"}})
"""
"""What the page calls render.py."""
LAUNCHING = ("sensor", "invoice_sensor")
"""The names of sensors that launch a run for a row."""


def flat(values):
    """The values, and those in lists and tuples."""
    for value in values:
        if type(value) in (list, tuple):  # a record of Dagster's is a tuple, too
            yield from flat(value)
        else:
            yield value


def code_location(new):
    """A repository of the definitions among these names."""
    unresolved = type(dg.define_asset_job("any"))
    found = {id(value): value for value in flat(new.values())}.values()
    return dg.Definitions(
        assets=[one for one in found if isinstance(one, dg.AssetsDefinition)],
        jobs=[one for one in found if isinstance(one, dg.JobDefinition | unresolved)],
        sensors=[one for one in found if isinstance(one, dg.SensorDefinition)],
        schedules=[one for one in found if isinstance(one, dg.ScheduleDefinition)],
        resources={"report_queue": ReportQueueResource(url=URL, token=os.environ["REPORTQUEUE_TOKEN"])},
    ).get_repository_def()


def make_with(make):
    """A report in memory."""
    queue = InMemoryQueue()
    row = queue.add(report_id=3, modifier_id=17)
    job = build_report_job(make)
    assert job.execute_in_process(
        run_config=row.run_config(), tags=row.tags(), resources={"report_queue": queue.resource()}
    ).success
    assert row.status == "succeeded", row.error


def status(queue_id, token):
    """Of a row of the real queue."""
    answer = requests.get(f"{URL}/report-queue/{queue_id}/", headers={"Authorization": f"Token {token}"}, timeout=30)
    answer.raise_for_status()
    return answer.json()["status"]


def make_a_row(sensor, repository, instance):
    """Enqueue a row over HTTP; the sensor launches its run, which makes it."""
    shop, dagster = os.environ["SHOP_TOKEN"], os.environ["REPORTQUEUE_TOKEN"]
    answer = requests.post(
        f"{URL}/report-queue/",
        json={"report_id": 3, "modifier_id": 17},
        headers={"Authorization": f"Token {shop}"},
        timeout=30,
    )
    answer.raise_for_status()
    queue_id = answer.json()["queue_id"]
    cursor = None
    for _ in range(2):  # a polling sensor marks the row when it finds the run
        context = dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            resources=repository.get_top_level_resources(),
            cursor=cursor,
        )
        result = sensor(context)
        cursor = result.cursor
        for asked in result.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(asked.partitions_def_name, asked.partition_keys)
        for request in result.run_requests:
            job = repository.get_job(request.job_name or sensor.job_name)
            tags = {**request.tags, "dagster/run_key": request.run_key, "dagster/sensor_name": sensor.name}
            assert job.execute_in_process(
                run_config=request.run_config, tags=tags, partition_key=request.partition_key, instance=instance
            ).success
        if status(queue_id, dagster) == "succeeded":
            return
    raise AssertionError(f"{sensor.name}: the row is {status(queue_id, dagster)}")


def main(path):
    """Execute all parts in one namespace, and try what each of them adds."""
    Path("render.py").write_text(RENDER)
    names = {"__name__": "parts"}
    for name, code in json.loads(Path(path).read_text()):
        before = dict(names)
        exec(compile(code, name, "exec"), names)  # noqa: S102
        new = {key: value for key, value in names.items() if before.get(key) is not value and key != "__builtins__"}
        for key, value in new.items():
            if key.startswith("make_"):
                make_with(value)
        repository = code_location(new)
        with dg.DagsterInstance.ephemeral() as instance:
            for key in LAUNCHING:
                if key in new:
                    make_a_row(new[key], repository, instance)
        print("ran", name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
