"""`manage.py create_consumer`: a user for Dagster or another program, with its permissions and a token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from reportqueue import api_users, audit, database, locks, tokens
from reportqueue.clock import database_now
from reportqueue.conf import own_tokens_refused
from reportqueue.errors import ReportQueueError
from reportqueue.management.arguments import duration, plain_text
from reportqueue.patterns import Pattern


@audit.by_command
class Command(BaseCommand):
    """Creates the user if it is missing, and one more token. Only the token goes to the standard output."""

    help = (
        "Creates a user for a program that calls the API, grants the permissions that it needs, and prints a new token "
        "of the user, once. The token is alone on the standard output; all other text is on the standard error. A user "
        "who exists keeps all permissions and tokens."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "user", type=plain_text, help="the name of the user, who gets no password; created if missing"
        )
        parser.add_argument(
            "--name", type=plain_text, help="the name of the token, for people (default: consumer, producer or reader)"
        )
        parser.add_argument(
            "--expires",
            type=duration,
            metavar="DURATION",
            help="how long the token is valid: 90d, 12h, 2w (default: without an end)",
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--pattern",
            choices=Pattern.values,
            help="for Dagster with the sensors of this pattern alone (default: with the sensors of any)",
        )
        what.add_argument("--producer", action="store_true", help="for a program that enqueues, and nothing more")
        what.add_argument("--read-only", action="store_true", help="for a program that reads rows and schedules")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what was done, and the token."""
        purpose, codenames = _purpose(options)
        if options["expires"] is not None and not options["expires"]:
            raise CommandError("--expires must be longer than 0 s.", returncode=2)
        if refusal := own_tokens_refused():
            raise CommandError(refusal)
        name = options["name"] if options["name"] is not None else purpose
        try:
            with locks.bounded(using=(users := database.users_alias())):
                prepared = api_users.prepare(options["user"], codenames)
                is_new, user, missing = prepared.is_new, prepared.user.get_username(), prepared.missing
                expires_at = None if options["expires"] is None else database_now(users) + options["expires"]
                if options["dry_run"]:
                    self._say(f"The user {user} {'would be created' if is_new else 'exists'}.")
                    self._say(f"Permissions that would be granted: {_listed(missing)}.")
                    self._say(f"The token {name!r} would be created: {_listed(codenames)}; {_end(expires_at)}.")
                    return
                prepared.carry_out()
                issued = tokens.issue(prepared.user, name=name, scopes=codenames, expires_at=expires_at)
        except ReportQueueError as error:
            raise CommandError(str(error)) from None
        except (DatabaseError, InterfaceError) as error:
            said = " ".join(str(error).split())[:200]
            raise CommandError(
                f"The database refuses: {said}. Does it answer, may it be written to, and has `manage.py migrate` run?"
            ) from None
        except ValidationError as error:
            said = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in error.message_dict.items())
            raise CommandError(f"The token cannot be made: {said}") from None
        self._say(f"The user {user} {'was created, without a password' if is_new else 'exists'}.")
        self._say(f"Permissions granted: {_listed(missing)}.")
        self._say(f"The token {issued.token} was created: {_listed(codenames)}; {_end(expires_at)}. It is shown once:")
        self.stdout.write(issued.key)

    def _say(self, text: str) -> None:
        self.stderr.write(text, self.style.NOTICE)


def _purpose(options: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What the token is for, and the permissions that this needs."""
    if options["producer"]:
        return "producer", api_users.PRODUCER
    if options["read_only"]:
        return "reader", api_users.READER
    pattern = options["pattern"]
    return "consumer", api_users.ANY_CONSUMER if pattern is None else api_users.CONSUMER[pattern]


def _listed(codenames: Any) -> str:
    return ", ".join(codenames) or "none"


def _end(expires_at: datetime | None) -> str:
    return "it has no end" if expires_at is None else f"it ends at {expires_at:%Y-%m-%d %H:%M} UTC"
