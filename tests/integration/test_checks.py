"""The mistakes of an installation, found by `manage.py check`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core import checks as django_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from psycopg import IsolationLevel, sql

from project.environment import BASE_DIR
from reportqueue import checks
from reportqueue.clock import database_now
from reportqueue.conf import Conf, conf
from reportqueue.models import ReportQueue, ReportSchedule
from tests.conftest import build_schedule
from tests.integration.test_enqueue_due_reports import database_url


def found() -> list[tuple[str, str]]:
    """The ids and texts of what all of the app's checks find, as `manage.py check` runs them."""
    problems = [one for one in django_checks.run_checks() if (one.id or "").startswith("reportqueue.")]
    assert all(problem.hint for problem in problems)
    return [(str(problem.id), problem.msg) for problem in problems]


def the_problem() -> tuple[str, str]:
    """The only one."""
    (problem,) = found()
    return problem


def test_the_demo_project_passes():
    assert found() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"RUN_LEASE": 5}, "RUN_LEASE"),
        ({"RUN_LEASE_SECONDS": 1}, "RUN_LEASE_SECONDS"),
        ({"RUN_LEASE_SECONDS": "60"}, "RUN_LEASE_SECONDS"),
        ({"RETRY_JITTER": 2}, "RETRY_JITTER"),
        ({"RETRY_JITTER": float("nan")}, "RETRY_JITTER"),
        ({"MAX_BODY_BYTES": True}, "MAX_BODY_BYTES"),
        ({"MAX_WAITERS": -1}, "MAX_WAITERS"),
        ({"RUN_URL": "http://dagster/runs"}, "run_id"),
        ({"RUN_URL": "javascript:alert('{run_id}')"}, "RUN_URL"),
        ({"RUN_URL": "//elsewhere/{run_id}"}, "RUN_URL"),
        ({"MAX_UNSTARTED_RUNS": 0}, "MAX_UNSTARTED_RUNS"),
        ({"LISTEN_DATABASE": "direct"}, "LISTEN_DATABASE"),
        ({"LISTEN_DATABASE": ["default"]}, "LISTEN_DATABASE"),
        ({"AUTHENTICATION_CLASSES": []}, "AUTHENTICATION_CLASSES"),
        ({"AUTHENTICATION_CLASSES": "a.B"}, "AUTHENTICATION_CLASSES"),
        ({"AUTHENTICATION_CLASSES": [7]}, "AUTHENTICATION_CLASSES"),
        ([], "must be a dict"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_a_hint(settings, wrong: Any, said: str):
    settings.REPORTQUEUE = wrong
    (problem,) = checks.check_settings(None)
    assert (problem.id, said in problem.msg) == ("reportqueue.E001", True)
    assert problem.hint
    with pytest.raises(ImproperlyConfigured):
        conf()


def test_an_authentication_class_that_cannot_be_imported_is_named_with_a_hint(settings):
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": ["nowhere.Class"]}
    (problem,) = checks.check_settings(None)
    assert (problem.id, "'nowhere.Class'" in problem.msg) == ("reportqueue.E001", True)
    assert problem.hint


def test_the_defaults_hold_without_any_settings(settings):
    del settings.REPORTQUEUE
    assert conf() == Conf()


def test_another_database_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.vendor", "sqlite")
    (problem,) = checks.check_database(None)
    assert problem.id == "reportqueue.E002"
    assert "PostgreSQL" in problem.msg


def test_a_missing_app_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "rest_framework")
    (problem,) = checks.check_settings(None)
    assert problem.id == "reportqueue.E003"
    assert "rest_framework" in problem.msg


def test_the_rest_frameworks_tokens_are_needed_only_where_the_settings_name_them(
    settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "rest_framework.authtoken")
    assert checks.check_settings(None) == []
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]}
    (problem,) = checks.check_settings(None)
    assert problem.id == "reportqueue.E003"
    assert "AUTHENTICATION_CLASSES" in problem.msg
    assert "rest_framework.authtoken" in str(problem.hint)


def test_a_project_without_time_zones_is_refused(settings):
    settings.USE_TZ = False
    assert the_problem()[0] == "reportqueue.E004"


class ReadsElsewhere:
    """As for a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model._meta.app_label == "reportqueue" else None


class WritesElsewhere:
    """One table in a database of its own."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "reports" if model is ReportQueue else None

    db_for_read = db_for_write


class LeavesOursAlone:
    """The router of a project with a second database for other apps."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return None if model._meta.app_label == "reportqueue" else "replica"

    db_for_write = db_for_read


@pytest.mark.parametrize(
    ("routers", "said"),
    [
        ([ReadsElsewhere], "reads to 'replica'"),
        ([WritesElsewhere], "ReportQueue's reads to 'reports' and writes to 'reports'"),
        ([LeavesOursAlone, ReadsElsewhere], "ReportSchedule's reads to 'replica'"),
        ([LeavesOursAlone], ""),
    ],
)
def test_a_second_database_by_router_is_refused(settings, routers: list[type], said: str):
    settings.DATABASE_ROUTERS = [f"{__name__}.{router.__name__}" for router in routers]
    problems = found()
    assert [name for name, _ in problems] == (["reportqueue.E005"] if said else [])
    assert all(said in text for _, text in problems)


@pytest.mark.parametrize(
    "level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE, int(IsolationLevel.SERIALIZABLE)]
)
def test_another_isolation_level_in_the_settings_is_refused(monkeypatch: pytest.MonkeyPatch, level: Any):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", level)
    name, said = the_problem()
    assert (name, "READ COMMITTED" in said) == ("reportqueue.E006", True)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", IsolationLevel.READ_COMMITTED)
    assert found() == []


def test_a_database_without_autocommit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    name, said = the_problem()
    assert (name, "AUTOCOMMIT" in said) == ("reportqueue.E006", True)


def alter(server: psycopg.Connection[Any], name: str, change: str) -> None:
    server.execute(sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(name), sql.SQL(change)))


@contextmanager
def another_database(monkeypatch: pytest.MonkeyPatch, options: str) -> Iterator[Callable[[str], None]]:
    """Django's settings name another database of the same server, created with these options; yields ALTER DATABASE."""
    name = f"checked_{uuid4().hex}"
    server = {**connection.get_connection_params(), "dbname": "postgres"}
    with psycopg.connect(**server, autocommit=True) as made:
        made.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(options)))
        try:
            with monkeypatch.context() as patched:
                patched.setitem(connection.settings_dict, "NAME", name)
                yield lambda change: alter(made, name, change)
        finally:
            made.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_an_encoding_that_does_not_hold_every_text_is_refused(db: None, monkeypatch: pytest.MonkeyPatch, encoding: str):
    options = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with another_database(monkeypatch, options):
        name, said = the_problem()
    assert (name, encoding in said) == ("reportqueue.E007", True)


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_another_isolation_level_of_the_database_is_refused(db: None, monkeypatch: pytest.MonkeyPatch, level: str):
    with another_database(monkeypatch, "") as alter_database:
        assert found() == [], "it is not migrated, and that is no mistake yet"
        alter_database(f"SET default_transaction_isolation = '{level}'")
        assert the_problem()[0] == "reportqueue.E006"
        # Django's setting wins over the database's.
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", IsolationLevel.READ_COMMITTED)
        assert found() == []


def test_an_old_server_is_told_of(db: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "OLDEST_SERVER", 99)
    name, said = the_problem()
    assert (name, "is older than 99" in said) == ("reportqueue.W002", True)


@pytest.mark.parametrize("place", [{"HOST": "/nowhere"}, {"NAME": ""}, {"PORT": "1", "HOST": "127.0.0.1"}])
def test_a_database_that_does_not_answer_is_no_mistake_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, place: dict[str, str]
):
    for name, value in place.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    assert found() == []


@pytest.mark.django_db(transaction=True)
def test_a_zone_that_schedules_use_and_this_machine_lacks_is_named():
    def in_zone(name: str, **fields: Any) -> None:
        ReportSchedule.objects.filter(pk=build_schedule(**fields).pk).update(timezone=name)

    build_schedule(timezone="Europe/Paris")
    in_zone("Mars/Olympus", enabled=False)
    assert found() == []
    in_zone("Mars/Olympus")
    in_zone("Mars/Olympus")
    in_zone("Europe/Atlantis")
    name, said = the_problem()
    assert name == "reportqueue.W001"
    assert said.endswith("Europe/Atlantis (1), Mars/Olympus (2).")


def without_zoneinfo(code: str, *, tzdata: bool) -> subprocess.CompletedProcess[str]:
    """Run code as on a slim image: the system has no zones; the package `tzdata` is there or is not."""
    hide = "" if tzdata else "import sys; sys.modules['tzdata'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code],
        cwd=BASE_DIR,
        env=os.environ
        | {"PYTHONTZPATH": "", "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "project.settings"},
        capture_output=True,
        text=True,
        check=False,
    )


CHECK = "from django.core.management import execute_from_command_line as run; run(['manage.py', 'check'])"


def test_a_machine_whose_system_has_no_zones_uses_the_package():
    code = "import reportcron; print(len(reportcron.zone_names()), reportcron.local('Europe/Berlin', reportcron.FIRST))"
    done = without_zoneinfo(code, tzdata=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 400
    assert without_zoneinfo(CHECK, tzdata=True).returncode == 0


def test_a_machine_without_any_zones_is_refused():
    done = without_zoneinfo(CHECK, tzdata=False)
    assert done.returncode == 1
    assert "(reportqueue.E008)" in done.stderr
    assert "tzdata" in done.stderr


@pytest.mark.django_db(transaction=True)
def test_the_instants_of_the_database_are_in_utc_whatever_zone_its_connection_has(monkeypatch: pytest.MonkeyPatch):
    def connect_anew() -> None:
        for name in ("timezone", "timezone_name"):
            connections["default"].__dict__.pop(name, None)
        connection.close()

    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "TIME_ZONE", "Asia/Kathmandu")
        connect_anew()
        offset = database_now().utcoffset()
    connect_anew()
    assert offset == timedelta(0)
