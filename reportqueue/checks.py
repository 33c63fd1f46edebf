"""System checks: find mistakes of an installation before its first request, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import psycopg
from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.urls import URLResolver, get_resolver
from django.utils.connection import ConnectionDoesNotExist
from psycopg import sql
from rest_framework.authentication import TokenAuthentication

import reportcron
from reportqueue import database, locks, modifiers
from reportqueue.conf import DRF_TOKENS_APP, Conf, authentication_classes, chosen_database, conf
from reportqueue.erasure import artifacts
from reportqueue.wakeup.listening import Address

OLDEST_SERVER = 15
"""The oldest PostgreSQL that the tests run on."""
NAMED = 10
"""How many time zones or tables a message names."""
ROUTER = "reportqueue.routers.ReportQueueRouter"
ASK_SECONDS = 2
"""How long a check may wait for the database: for the connection, and for each answer."""
METRICS = "reportqueue.metrics"
Configs = Sequence[AppConfig] | None
Found = list[checks.CheckMessage]


@checks.register
def check_settings(app_configs: Configs, **kwargs: Any) -> Found:
    """E001: the `REPORTQUEUE` dict makes sense. E003: the apps that the API needs are installed. E004: `USE_TZ`."""
    problems: Found = []
    needed = {"rest_framework": "reportqueue's API"}
    try:
        if any(issubclass(one, TokenAuthentication) and one.model is None for one in authentication_classes()):
            needed[DRF_TOKENS_APP] = "TokenAuthentication in REPORTQUEUE['AUTHENTICATION_CLASSES']"
        modifiers.model()
        artifacts.deleter()
    except ImproperlyConfigured as error:
        problems.append(checks.Error(str(error), hint="See docs/settings.md.", id="reportqueue.E001"))
    problems += [
        checks.Error(
            f"{what} needs {name}.",
            hint=f'Add "{name}" to INSTALLED_APPS and run migrate.',
            id="reportqueue.E003",
        )
        for name, what in needed.items()
        if not apps.is_installed(name)
    ]
    if not settings.USE_TZ:
        problems.append(
            checks.Error(
                "reportqueue needs USE_TZ = True: without it Django has no instants, only readings of a clock.",
                hint="Set USE_TZ = True; Django's documentation of time zones has a migration guide.",
                id="reportqueue.E004",
            )
        )
    return problems


@checks.register(checks.Tags.urls)
def check_metrics(app_configs: Configs, **kwargs: Any) -> Found:
    """W005 and W006: the project has the address `/metrics`, and nobody can read it."""
    try:
        if not settings.ROOT_URLCONF or not _includes(get_resolver(), METRICS):
            return []
        closed = not (conf().metrics_open or conf().metrics_token)
    except Exception:  # Django's own check of the addresses says it, or E001
        return []
    if find_spec("prometheus_client") is None:
        return [
            checks.Warning(
                f"The addresses include {METRICS}, but prometheus-client is not installed: there is no /metrics.",
                hint="pip install 'reportqueue[metrics]', or leave the address out.",
                id="reportqueue.W005",
            )
        ]
    if closed:
        return [
            checks.Warning(
                "/metrics answers nobody: REPORTQUEUE has neither METRICS_TOKEN nor METRICS_OPEN.",
                hint="Set METRICS_TOKEN to a long random text, and give it to Prometheus as a bearer token.",
                id="reportqueue.W006",
            )
        ]
    return []


def _includes(resolver: URLResolver, module: str) -> bool:
    if getattr(resolver.urlconf_name, "__name__", resolver.urlconf_name) == module:
        return True
    return any(_includes(one, module) for one in resolver.url_patterns if isinstance(one, URLResolver))


@checks.register
def check_database(app_configs: Configs, **kwargs: Any) -> Found:
    """E002: PostgreSQL. E005: the routers. E006: READ COMMITTED and autocommit. W003: a database of its own.

    E002 and E006 are of the queue's database, and of the users', which has the API tokens. E002 is of
    `LISTEN_DATABASE`, too.
    """
    if problems := _misplaced():
        return problems
    for alias in sorted({database.alias(), database.users_alias()}):
        problems += _settings_problems(alias)
    problems += _listening_elsewhere()
    if (alias := database.alias()) != DEFAULT_DB_ALIAS:
        problems.append(
            checks.Warning(
                f"The queue is in the database {alias!r}: queue.enqueue is no part of a transaction in another "
                "database, and its report stays if that rolls back.",
                hint="Enqueue in transaction.on_commit, or in transaction.atomic(using="
                f'{alias!r}), as docs/django.md says. Then add "reportqueue.W003" to SILENCED_SYSTEM_CHECKS.',
                id="reportqueue.W003",
            )
        )
    return problems


def _settings_problems(alias: str) -> Found:
    """What Django's settings say of a database."""
    connection = database.connection(alias)
    problems: Found = []
    if connection.vendor != "postgresql":
        problems.append(
            checks.Error(
                f"reportqueue needs PostgreSQL; the database {alias!r} is {connection.vendor}.",
                hint='Set "ENGINE": "django.db.backends.postgresql".',
                id="reportqueue.E002",
            )
        )
        return problems
    if not connection.settings_dict.get("AUTOCOMMIT", True):
        problems.append(
            checks.Error(
                "reportqueue needs AUTOCOMMIT: without it Django commits nothing that the queue writes.",
                hint=f'Leave "AUTOCOMMIT" out of DATABASES[{alias!r}].',
                id="reportqueue.E006",
            )
        )
    level = connection.settings_dict["OPTIONS"].get("isolation_level")
    if level not in (None, psycopg.IsolationLevel.READ_COMMITTED):
        name = getattr(level, "name", str(level)).replace("_", " ")
        problems.append(_wrong_isolation(name, f'"isolation_level" out of the OPTIONS of {alias!r}'))
    return problems


def _listening_elsewhere() -> Found:
    """E002, of `LISTEN_DATABASE`."""
    try:
        alias = conf().listen_database
    except ImproperlyConfigured:  # E001 says it
        return []
    if not alias or (vendor := database.connection(alias).vendor) == "postgresql":
        return []
    return [
        checks.Error(
            f"reportqueue listens in PostgreSQL; REPORTQUEUE['LISTEN_DATABASE'] names {alias!r}, which is {vendor}.",
            hint="Name a connection to the queue's database that does not go through a pool, or leave the setting out.",
            id="reportqueue.E002",
        )
    ]


def _misplaced() -> Found:
    """E005: what is wrong with the databases that the routers choose."""
    users, tokens = get_user_model(), database.users_alias()
    written = {model: router.db_for_write(model) for model in apps.get_app_config(database.APP).get_models()}
    read = {model: router.db_for_read(model) for model in written}
    queues = {model: alias for model, alias in written.items() if model.__name__ != "ApiToken"}
    queue = database.alias()
    if unknown := {alias: model for model, alias in [*written.items(), *read.items()] if alias not in connections}:
        named = ", ".join(f"{model.__name__} to {alias!r}" for alias, model in unknown.items())
        text = f"Add {', '.join(map(repr, unknown))} to DATABASES, or send them elsewhere."
        return [_wrong_routers(f"they send {named}, which is not in DATABASES", text)]
    problems: Found = []
    if elsewhere := [model for model, alias in written.items() if read[model] != alias]:
        named = _named(elsewhere, lambda model: f"reads to {read[model]!r} and writes to {written[model]!r}")
        text = "The queue must see what it has just written: send reads where you send writes, also beside a replica."
        problems.append(_wrong_routers(f"they send {named}", text))
    if apart := [model for model, alias in queues.items() if alias != queue]:
        named = _named(apart, lambda model: f"writes to {written[model]!r}")
        text = f"Send all of the app but ApiToken to one database: they send ReportQueue's writes to {queue!r}."
        problems.append(_wrong_routers(f"they send {named}", text))
    if tokens != (place := router.db_for_write(users)):
        text = f"The table has a foreign key to the users: send ApiToken to {place!r}, too."
        problems.append(_wrong_routers(f"they send ApiToken to {tokens!r} and the users to {place!r}", text))
    if (chosen := chosen_database()) not in (queue, Conf.database):
        text = f"Add {ROUTER!r} to DATABASE_ROUTERS, before routers that send everything elsewhere."
        what = f"they send ReportQueue to {queue!r}, and the setting DATABASE is {chosen!r}"
        problems.append(_wrong_routers(what, text))
    refused = [
        f"{model.__name__} in {alias!r}"
        for model, alias in written.items()
        if not router.allow_migrate_model(alias, model)
    ]
    if not router.allow_migrate(queue, database.APP):
        refused.append(f"the SQL of the migrations in {queue!r}")
    if refused:
        text = (
            f"Have allow_migrate return True or None for {database.APP!r} there. If migrate has recorded the "
            f"migrations already, run manage.py migrate {database.APP} zero --fake, then manage.py migrate."
        )
        what = f"by allow_migrate, they refuse {', '.join(refused[:NAMED])}{' and more' if refused[NAMED:] else ''}"
        problems.append(_wrong_routers(what, text))
    return problems


def _wrong_routers(what: str, remedy: str) -> checks.Error:
    return checks.Error(
        f"reportqueue cannot work with these DATABASE_ROUTERS: {what}.",
        hint=f"{remedy} {ROUTER} does it all.",
        id="reportqueue.E005",
    )


def _named(models: Sequence[type[Any]], what: Callable[[type[Any]], str]) -> str:
    return "; ".join(f"{model.__name__}'s {what(model)}" for model in models[:NAMED])


def _wrong_isolation(level: str, remedy: str) -> checks.Error:
    return checks.Error(
        f"reportqueue needs the isolation level READ COMMITTED; it is {level}. With another one, calls that meet at a "
        "row fail instead of waiting for each other.",
        hint=f"Leave {remedy}.",
        id="reportqueue.E006",
    )


@checks.register
def check_server(app_configs: Configs, **kwargs: Any) -> Found:
    """What the queue's server says: E006, E007, W001, W002 and W004.

    This asks the database, unlike most checks: no setting shows these mistakes. It says nothing if the database does
    not answer, or is not migrated: the command that is run will say so.
    """
    try:
        if database.connection().vendor != "postgresql":
            return []
        address = Address.of()
        with address.connect("reportqueue-check", connect_timeout=ASK_SECONDS) as asked:
            asked.execute("SELECT set_config('statement_timeout', %s, false)", [f"{ASK_SECONDS}s"])
            return [*_server_problems(asked), *_missing_zones(asked)]
    except (psycopg.Error, ImproperlyConfigured, ConnectionDoesNotExist):
        return []


def _server_problems(asked: psycopg.Connection[Any]) -> Found:
    problems: Found = []
    encoding = asked.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        problems.append(
            checks.Error(
                f"reportqueue needs a database with the encoding UTF8; this one has {encoding}, and cannot store every "
                "text.",
                hint="Create a database with ENCODING 'UTF8' TEMPLATE template0, and move the data by pg_dump.",
                id="reportqueue.E007",
            )
        )
    if "isolation_level" not in database.connection().settings_dict["OPTIONS"]:
        (level,) = _row(asked, "SHOW default_transaction_isolation")
        if level != "read committed":
            remedy = "default_transaction_isolation at its default, for this server, database and role"
            problems.append(_wrong_isolation(level.upper(), remedy))
    if _row(asked, "SHOW transaction_read_only") == ("on",):
        problems.append(
            checks.Warning(
                f"{locks.READ_ONLY} The queue cannot hand out any report there.",
                hint="Name a server that takes writes in DATABASES, for instance by target_session_attrs=read-write in "
                "its OPTIONS, and leave default_transaction_read_only off for this database and role.",
                id="reportqueue.W004",
            )
        )
    if (version := asked.info.server_version // 10_000) < OLDEST_SERVER:
        problems.append(
            checks.Warning(
                f"PostgreSQL {version} is older than {OLDEST_SERVER}, the oldest that reportqueue is tested on.",
                hint=f"Upgrade to PostgreSQL {OLDEST_SERVER} or later.",
                id="reportqueue.W002",
            )
        )
    return problems


def _missing_zones(asked: psycopg.Connection[Any]) -> Found:
    from reportqueue.models import ReportSchedule

    table = ReportSchedule._meta.db_table
    if _row(asked, "SELECT to_regclass(%s)", table) == (None,):
        return []
    query = sql.SQL("SELECT timezone, count(*) FROM {} WHERE enabled GROUP BY timezone ORDER BY timezone")
    found = asked.execute(query.format(sql.Identifier(table))).fetchall()
    known = reportcron.zone_names()
    missing = [f"{name} ({count:,})" for name, count in found if name not in known]
    if not missing or not known:  # without any zones, E008 says it all
        return []
    more = " and more" if len(missing) > NAMED else ""
    return [
        checks.Warning(
            "Enabled schedules have time zones that this machine does not know, and cannot fire here: "
            f"{', '.join(missing[:NAMED])}{more}.",
            hint="Update the package tzdata, or give these schedules another time zone.",
            id="reportqueue.W001",
        )
    ]


def _row(asked: psycopg.Connection[Any], query: Any, *values: Any) -> tuple[Any, ...]:
    found = asked.execute(query, values).fetchone()
    assert found is not None  # noqa: S101  # each of these queries has one row
    return tuple(found)


@checks.register
def check_time_zones(app_configs: Configs, **kwargs: Any) -> Found:
    """E008: this machine has time zones."""
    if "UTC" in reportcron.zone_names():
        return []
    return [
        checks.Error(
            "This machine has no time zones: no schedule could be saved, and the scheduler would disable all of them.",
            hint="Install the package tzdata, which belongs to reportqueue[django], or your system's.",
            id="reportqueue.E008",
        )
    ]
