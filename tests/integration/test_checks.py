"""The mistakes of an installation, found by `manage.py check`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core import checks as django_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from psycopg import IsolationLevel, sql

from project.environment import BASE_DIR
from reportqueue import checks, moving
from reportqueue.clock import database_now
from reportqueue.conf import Conf, conf
from reportqueue.models import ApiToken, MutedFailure, Pause, ReportConsumer, ReportSchedule
from reportqueue.models.pause import Scope
from reportqueue.patterns import Pattern
from reportqueue.triggers.consumers import Silence
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
        ({"MAX_STREAMS": -1}, "MAX_STREAMS"),
        ({"RUN_URL": "http://dagster/runs"}, "run_id"),
        ({"RUN_URL": "javascript:alert('{run_id}')"}, "RUN_URL"),
        ({"RUN_URL": "//elsewhere/{run_id}"}, "RUN_URL"),
        ({"TRACE_URL": "http://traces/"}, "{trace_id}"),
        ({"TRACE_URL": "javascript:alert('{trace_id}')"}, "TRACE_URL"),
        ({"TRACE_URL": 7}, "TRACE_URL"),
        ({"MAX_UNSTARTED_RUNS": 0}, "MAX_UNSTARTED_RUNS"),
        ({"DATABASE": "nowhere"}, "'DATABASE'"),
        ({"DATABASE": ["default"]}, "'DATABASE'"),
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


def test_listening_in_another_database_than_postgresql_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch):
    other = {**connection.settings_dict, "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    monkeypatch.setitem(connections.databases, "lite", other)
    monkeypatch.setitem(settings.DATABASES, "lite", other)
    settings.REPORTQUEUE = {"LISTEN_DATABASE": "lite"}
    (problem,) = checks.check_database(None)
    del connections["lite"]
    assert problem.id == "reportqueue.E002"
    assert "['LISTEN_DATABASE'] names 'lite', which is sqlite" in problem.msg
    settings.REPORTQUEUE = {"LISTEN_DATABASE": "default"}
    assert checks.check_database(None) == []
    settings.REPORTQUEUE = {"LISTEN_DATABASE": "nowhere"}
    assert checks.check_database(None) == [], "E001 says it"


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


class To:
    """A router that sends some models to the database `reports`."""

    def sends(self, model: Any) -> bool:
        return bool(model._meta.app_label == "reportqueue")

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "reports" if self.sends(model) else None

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.db_for_write(model)


class ReadsElsewhere(To):
    """As for a replica."""

    def db_for_write(self, model: Any, **hints: Any) -> None:
        return None

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "reports" if self.sends(model) else None


class OneTable(To):
    """One table in a database of its own."""

    def sends(self, model: Any) -> bool:
        return model is ReportSchedule


class TheQueue(To):
    """What the shipped router does, by a project's own."""

    def sends(self, model: Any) -> bool:
        return super().sends(model) and model is not ApiToken


class TheUsers(To):
    """The users without their tokens."""

    def sends(self, model: Any) -> bool:
        return bool(model._meta.app_label == "auth")


class AnotherApp(To):
    """A database for other apps, which is of no concern here."""

    def sends(self, model: Any) -> bool:
        return bool(model._meta.app_label == "sessions")


class Nowhere(TheQueue):
    """A database that is not in `DATABASES`."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "nowhere" if self.sends(model) else None


class NoTables:
    """As many projects have it: only some apps have tables in this database."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return False if app_label == "reportqueue" else None


class NotOneTable(NoTables):
    """All tables but one."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return False if model_name == "reportattempt" else None


class NoSql(NoTables):
    """It knows models alone."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return model_name is not None


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """A second database."""
    same = dict(connection.settings_dict)
    monkeypatch.setitem(connections.databases, "reports", same)
    monkeypatch.setitem(settings.DATABASES, "reports", same)
    # Since Django 6.1 the checks of fields ask for the server's version, also of a database that a test may not use.
    monkeypatch.setitem(connections["reports"].__dict__, "pg_version", 180_000)


SHIPPED = "reportqueue.routers.ReportQueueRouter"


def use(settings: Any, *routers: type | str, database: str = "default") -> None:
    """Have these routers, and the setting of the shipped one."""
    named = [router if isinstance(router, str) else f"{__name__}.{router.__name__}" for router in routers]
    settings.DATABASE_ROUTERS, settings.REPORTQUEUE = named, {"DATABASE": database, "METRICS_OPEN": True}


@pytest.mark.parametrize(
    ("routers", "said", "remedy"),
    [
        (
            [ReadsElsewhere],
            "AuditEntry's reads to 'reports' and writes to 'default'",
            "where you send writes",
        ),
        ([AnotherApp, ReadsElsewhere], "AuditEntry's reads to 'reports'", "where you send writes"),
        ([OneTable], "ReportSchedule's writes to 'reports'", "all of the app but ApiToken to one database"),
        ([To], "ApiToken to 'reports' and the users to 'default'", "send ApiToken to 'default'"),
        ([TheUsers], "ApiToken to 'default' and the users to 'reports'", "send ApiToken to 'reports'"),
        ([NoTables], "AuditEntry in 'default', ", "allow_migrate return True or None for 'reportqueue'"),
        ([NoTables], " and more", "migrate reportqueue zero --fake"),
        ([NotOneTable], "refuse ReportAttempt in 'default'.", "allow_migrate return True or None"),
        ([NoSql], "refuse the SQL of the migrations in 'default'.", "allow_migrate return True or None"),
        ([Nowhere], "'nowhere', which is not in DATABASES", "Add 'nowhere' to DATABASES"),
    ],
)
def test_routers_with_which_the_queue_cannot_work_are_refused(
    settings: Any, reports: None, routers: list[type], said: str, remedy: str
):
    use(settings, *routers)
    (problem,) = checks.check_database(None)
    assert problem.id == "reportqueue.E005"
    assert said in problem.msg
    assert remedy in str(problem.hint)
    assert SHIPPED in str(problem.hint)


REFUSED_TABLES = """
import django
from django.conf import settings
from django.core.management import call_command
from django.db import router
from django.test import Client

settings.DATABASE_ROUTERS = ["tests.integration.test_checks.NoTables"]
settings.ALLOWED_HOSTS = ["testserver"]
django.setup()
call_command("migrate", verbosity=0, skip_checks=True)
(reason,) = Client().get("/readyz").json()["reasons"]
assert re.search("lacks .*reportqueue_apitoken, ", reason), reason
router.routers = []
for command in re.findall(r"manage\\.py (migrate[^.]*?)(?: and |\\.$)", reason):
    call_command(*command.split(), verbosity=0)
answer = Client().get("/readyz")
assert answer.status_code == 200, answer.content
"""


def test_what_a_router_has_refused_is_made_by_the_commands_that_readyz_names(db: None, monkeypatch: pytest.MonkeyPatch):
    with another_database(monkeypatch, ""):
        environment = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
        done = subprocess.run(
            [sys.executable, "-c", f"import re{REFUSED_TABLES}"], cwd=BASE_DIR, env=environment, capture_output=True
        )
    assert done.returncode == 0, done.stderr.decode()


def test_the_setting_without_a_router_is_refused(settings: Any, reports: None):
    use(settings, database="reports")
    (problem,) = checks.check_database(None)
    assert problem.id == "reportqueue.E005"
    assert SHIPPED in str(problem.hint)


@pytest.mark.parametrize(
    ("routers", "chosen", "own"),
    [
        ([], "default", False),
        ([AnotherApp], "default", False),
        ([SHIPPED], "default", False),
        ([SHIPPED], "reports", True),
        ([TheQueue], "default", True),
        ([AnotherApp, SHIPPED], "reports", True),
        ([SHIPPED, TheUsers], "default", False),  # the shipped one puts the tokens beside the users
    ],
)
def test_a_database_of_its_own_is_told_of(
    settings: Any, reports: None, routers: list[type | str], chosen: str, own: bool
):
    use(settings, *routers, database=chosen)
    problems = found()
    assert [name for name, _ in problems] == (["reportqueue.W003"] if own else [])
    assert all("'reports'" in text for _, text in problems)
    settings.SILENCED_SYSTEM_CHECKS = ["reportqueue.W003"]
    assert [one for one in django_checks.run_checks() if not one.is_silenced()] == []


@pytest.mark.parametrize("apart", [True, False])
def test_both_databases_must_be_postgresql(settings: Any, reports: None, monkeypatch: pytest.MonkeyPatch, apart: bool):
    use(settings, SHIPPED, database="reports")
    wrong = "reports" if apart else "default"
    monkeypatch.setattr(connections[wrong], "vendor", "sqlite")
    (problem, *_) = checks.check_database(None)
    assert (problem.id, repr(wrong) in problem.msg) == ("reportqueue.E002", True)


def test_the_queues_database_is_the_one_that_is_looked_at(
    db: None, settings: Any, reports: None, monkeypatch: pytest.MonkeyPatch
):
    use(settings, SHIPPED, database="reports")
    monkeypatch.setattr(checks, "OLDEST_SERVER", 99)
    monkeypatch.setitem(connection.settings_dict, "NAME", "nowhere")
    assert {name for name, _ in found()} == {"reportqueue.W002", "reportqueue.W003"}
    level = {**connections["reports"].settings_dict["OPTIONS"], "isolation_level": IsolationLevel.SERIALIZABLE}
    monkeypatch.setitem(connections["reports"].settings_dict, "OPTIONS", level)
    assert "reportqueue.E006" in [name for name, _ in found()]


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


def test_a_database_that_takes_no_writes_is_told_of(db: None, monkeypatch: pytest.MonkeyPatch):
    with another_database(monkeypatch, "") as alter_database:
        alter_database("SET default_transaction_read_only = on")
        name, said = the_problem()
    assert (name, "is read-only" in said) == ("reportqueue.W004", True)


def test_a_connection_that_takes_no_writes_is_told_of(db: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "options", "-c default_transaction_read_only=on")
    assert the_problem()[0] == "reportqueue.W004"


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
    with zone_of_connection(monkeypatch, "Asia/Kathmandu"):
        assert database_now().utcoffset() == timedelta(0)


@pytest.mark.django_db(transaction=True)
def test_what_people_read_is_in_utc_whatever_zone_the_connection_has(monkeypatch: pytest.MonkeyPatch):
    at = datetime(2026, 6, 1, 12, tzinfo=UTC)
    Pause(scope=Scope.QUEUE, paused_at=at).save()
    MutedFailure(fingerprint="0" * 16, muted_at=at).save()
    ReportConsumer(pattern=Pattern.QUEUE, name="sensor", seen_at=at).save()
    with zone_of_connection(monkeypatch, "Asia/Kathmandu"):
        pause, muted, consumer = Pause.objects.get(), MutedFailure.objects.get(), ReportConsumer.objects.get()
        assert pause.paused_at.utcoffset() != timedelta(0)
        said = [str(pause), moving.paused(pause), str(muted), str(Silence(Pattern.QUEUE, consumer, ""))]
    assert [text for text in said if "2026-06-01 12:00 UTC" not in text] == []


@contextmanager
def zone_of_connection(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    """The project has set `TIME_ZONE` of the database."""

    def connect_anew() -> None:
        for name in ("timezone", "timezone_name"):
            connections["default"].__dict__.pop(name, None)
        connection.close()

    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "TIME_ZONE", zone)
        connect_anew()
        yield
    connect_anew()
