"""The migrations: an installation continues where it is, and no migration stops a running one."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder

from reportqueue import database
from reportqueue.models import ReportConsumer
from tools.migration_lint import Analyser

SQUASHED = "0001_squashed_0015_lists"
TABLE = '"reportqueue_reportqueue"'
NEW_TABLE = ['CREATE TABLE "reportqueue_new" ("id" bigint NOT NULL);']


def recorded() -> Any:
    return MigrationRecorder.Migration.objects.using(database.alias()).filter(app="reportqueue")


def applied() -> list[str]:
    return sorted(recorded().values_list("name", flat=True))


def migrate(*target: str) -> None:
    call_command("migrate", "reportqueue", *target, verbosity=0, database=database.alias())


def test_an_installation_of_the_first_fifteen_migrations_continues(transactional_db: None):
    migrate(SQUASHED)
    recorded().filter(name=SQUASHED).delete()
    before = applied()
    assert (before[0], before[-1], len(before)) == ("0001_initial", "0015_lists", 15)
    with database.connection().cursor() as cursor:
        cursor.execute("INSERT INTO reportqueue_reportconsumer (pattern, name) VALUES ('queue', 'lane')")
    migrate()
    assert set(applied()) >= {*before, SQUASHED, "0016_consumer_deployments"}
    assert ReportConsumer.objects.get(name="lane").deployment == ""


def codes(*statements: str) -> list[str]:
    analyser = Analyser(None)
    analyser.analyse(list(statements))
    return [issue.code for issue in (*analyser.errors, *analyser.warnings)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (f'ALTER TABLE {TABLE} ADD COLUMN "note" text NOT NULL;', "NOT_NULL"),
        (f'ALTER TABLE {TABLE} DROP COLUMN "note" CASCADE;', "DROP_COLUMN"),
        (f'ALTER TABLE {TABLE} RENAME COLUMN "note" TO "text";', "RENAME_COLUMN"),
        (f'CREATE INDEX "by_note" ON {TABLE} ("note");', "CREATE_INDEX"),
        (f'ALTER TABLE {TABLE} ADD CONSTRAINT "short" CHECK (length(note) < 9);', "CONSTRAINT_READS_TABLE"),
        (
            f'ALTER TABLE {TABLE} ADD CONSTRAINT "of" FOREIGN KEY ("id") REFERENCES "x" ("id") DEFERRABLE;',
            "CONSTRAINT_READS_TABLE",
        ),
    ],
)
def test_what_stops_a_running_system_is_refused(statement: str, code: str):
    assert code in codes(statement)


@pytest.mark.parametrize(
    "statement",
    [
        f"ALTER TABLE {TABLE} ADD COLUMN \"note\" text DEFAULT '' NOT NULL;",
        f'ALTER TABLE {TABLE} ADD COLUMN "note" text NULL;',
        f'CREATE INDEX CONCURRENTLY "by_note" ON {TABLE} ("note");',
        f'ALTER TABLE {TABLE} ADD CONSTRAINT "short" CHECK (length(note) < 9) NOT VALID;',
        f'ALTER TABLE {TABLE} VALIDATE CONSTRAINT "short";',
    ],
)
def test_what_old_code_and_readers_do_not_notice_is_not_refused(statement: str):
    assert codes(statement) == []


def test_a_new_table_may_have_everything():
    more = 'ALTER TABLE "reportqueue_new" ADD CONSTRAINT "positive" CHECK (id > 0);'
    assert codes(*NEW_TABLE, more, 'CREATE INDEX "by_id" ON "reportqueue_new" ("id");') == []
