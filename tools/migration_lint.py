"""Refuses migrations that a running system does not survive: old code fails, or a table is locked for long.

An installation is migrated while its web app works, and the old code goes on until each process is restarted. So a new
column is nullable or has a default in the database, an index is made concurrently, and a constraint is added NOT VALID
and validated by another migration. What a release no longer needs is removed by the next one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import django
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.base import Check, CheckMode, CheckType
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser

from reportqueue.database import APP
from tools.runner import checks

SETTINGS = "tests.settings"


def reads_the_table(statements: Sequence[str], **_: Any) -> bool:
    """Whether a constraint is added that PostgreSQL validates at once: it locks the table while it reads all rows."""
    made = {found[1] for one in statements if (found := re.match(r'CREATE TABLE ("\w+")', one))}
    added = [
        re.match(r'ALTER TABLE ("\w+") ADD CONSTRAINT .* (CHECK|FOREIGN KEY|EXCLUDE)\b', one) for one in statements
    ]
    return any(
        found is not None and found[1] not in made and not found.string.rstrip(";").endswith("NOT VALID")
        for found in added
    )


class Analyser(PostgresqlAnalyser):
    """The library's checks, and one of constraints."""

    migration_checks = [
        *PostgresqlAnalyser.migration_checks,
        Check(
            code="CONSTRAINT_READS_TABLE",
            fn=reads_the_table,
            message="ADD CONSTRAINT reads the table: use AddConstraintNotValid, then ValidateConstraint",
            mode=CheckMode.TRANSACTION,
            type=CheckType.ERROR,
        ),
    ]


def main() -> int:
    """Check every migration of the app; returns 1 if one is refused."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    return checks.on_temporary_postgres(_lint)


def _lint() -> int:
    django.setup()
    # What the first migration makes was not there before.
    linter = MigrationLinter(
        include_apps=[APP], no_cache=True, all_warnings_as_errors=True, ignore_initial_migrations=True
    )
    linter.sql_analyser_class = Analyser
    linter.lint_all_migrations(app_label=APP)
    return 1 if linter.has_errors or not linter.nb_total else 0


if __name__ == "__main__":
    sys.exit(main())
