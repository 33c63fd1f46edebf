"""Somebody's project with the queue in a second database behind PgBouncer: one report, from the wheel to its end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from project.environment import database
from tests.acceptance.wheels import python, run, served, start_project
from tests.documents import blocks
from tests.pgbouncer import PGBOUNCER, pgbouncer
from tools.runner.postgres import create_database, with_database

pytestmark = pytest.mark.timeout(600)  # an installation takes long on a busy machine
SET_UP, MIGRATE, ENQUEUE = (
    block.text for block in blocks("docs/django.md", "python", "sh") if block.section == "A database of its own"
)
SETTINGS = f"""
DATABASES = {{databases!r}}
REPORTQUEUE = {{{{"LISTEN_DATABASE": {{listen!r}}}}}}
there = DATABASES["reports"]
{SET_UP.replace("{", "{{").replace("}", "}}")}
DATABASES["reports"] = there
"""
ORDER = f"""
import json
import warnings

import django

django.setup()

from django.contrib.auth.models import User
from django.db import connections

order = User(username="seller")
{ENQUEUE}
warnings.simplefilter("error", queue.OutsideTransaction)
with transaction.atomic(using="reports"), transaction.atomic():
    User.objects.create_user("buyer")
    row = queue.enqueue(3, 17, params={{"order": 4711}})
try:
    with transaction.atomic():
        queue.enqueue(3, 18)
except queue.OutsideTransaction as warning:
    refused = str(warning)
tables = {{
    alias: [name for name in connections[alias].introspection.table_names() if not name.startswith("django_")]
    for alias in ("default", "reports")
}}
print(json.dumps({{"row": row.pk, "refused": refused, "tables": tables}}))
"""
MAKE = """
import json
import os
import sys

from dagster import DagsterInstance, build_sensor_context
from dagster_reportqueue import ReportQueueResource, build_queue_sensor, build_report_job

made = []


def make_report(run):
    made.append(run.params)
    return {"title": f"Report {run.report_id}"}


address, token = os.environ["REPORTQUEUE_URL"], os.environ["REPORTQUEUE_TOKEN"]
resources = {"report_queue": ReportQueueResource(url=address, token=token)}
job = build_report_job(make_report)
with DagsterInstance.ephemeral() as instance:
    tick = build_queue_sensor(job, name="rows")(build_sensor_context(instance=instance, resources=resources))
done = [
    job.execute_in_process(run_config=request.run_config, tags=request.tags, resources=resources)
    for request in tick.run_requests
]
print(json.dumps({"success": all(one.success for one in done), "made": made}))
"""


@pytest.fixture
def servers(fresh_database_url: str) -> Iterator[dict[str, dict[str, Any]]]:
    """Two empty databases, as in `DATABASES`."""
    name = fresh_database_url.partition("?")[0].rpartition("/")[2] + "_reports"
    reports = with_database(fresh_database_url, name)
    for url in (fresh_database_url, reports):
        create_database(url)
    yield {"default": database(fresh_database_url), "reports": database(reports)}
    with psycopg.connect(with_database(fresh_database_url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def behind_pgbouncer(folder: Path, servers: dict[str, dict[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """The reports are reached through PgBouncer, and `direct` goes around it; without PgBouncer, all are direct."""
    reports = servers["reports"]
    if PGBOUNCER is None:
        yield {**servers, "direct": reports}
        return
    with pgbouncer(folder / "pgbouncer", reports, reports["NAME"]) as port:
        through = {**reports, "HOST": "127.0.0.1", "PORT": str(port), "DISABLE_SERVER_SIDE_CURSORS": True}
        yield {**servers, "reports": through, "direct": reports}


def test_a_report_is_made(
    their_python: str, installed: Path, folder: Path, servers: dict[str, dict[str, Any]], record_property: Any
):
    home = folder / "theirs"
    record_property("pgbouncer", PGBOUNCER is not None)
    with behind_pgbouncer(folder, servers) as databases:
        start_project(their_python, home, SETTINGS.format(databases=databases, listen="direct"))
        settings = {"DJANGO_SETTINGS_MODULE": "theirs.settings"}

        def manage(*command: str) -> str:
            return python(their_python, "manage.py", *command, cwd=home, variables=settings)

        checked = run(their_python, "manage.py", "check", cwd=home, variables=settings)
        assert (checked.returncode, "reportqueue.W003" in checked.stderr) == (0, True), checked.stderr
        for line in MIGRATE.splitlines():
            assert line.startswith("python manage.py ")
            manage(*shlex.split(line, comments=True)[2:], "--no-input")
        manage("makemigrations", "--check")
        token = manage("create_consumer", "dagster").strip()
        (home / "order.py").write_text(ORDER)
        ordered = json.loads(python(their_python, "order.py", cwd=home, variables=settings))
        assert "using='reports'" in ordered["refused"]
        assert "auth_user" in ordered["tables"]["default"]
        ours = {alias: [name for name in names if "auth_" not in name] for alias, names in ordered["tables"].items()}
        assert ours["default"] == ["reportqueue_apitoken"]
        assert "reportqueue_reportqueue" in ours["reports"]
        assert ours["reports"] == ordered["tables"]["reports"]
        (home / "make.py").write_text(MAKE)
        with served(their_python, home, settings) as url:
            variables = {"PYTHONPATH": str(installed), "REPORTQUEUE_URL": url, "REPORTQUEUE_TOKEN": token}
            made = json.loads(python(sys.executable, "make.py", cwd=home, variables=variables).splitlines()[-1])
        assert made == {"success": True, "made": [{}, {}, {"order": 4711}]}
        show = f"from reportqueue.models import ReportQueue as Q; r = Q.objects.get(pk={ordered['row']})"
        said = manage("shell", "--no-imports", "-c", f"{show}; print(r.status, r.result)")
        assert said.strip() == "succeeded {'title': 'Report 3'}"
