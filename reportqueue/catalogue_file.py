"""The catalogue as a TOML file, for version control: read it, compare it with the database, load it.

    [[report]]
    report_id = 1
    name = "Weather"
    route = "default"
    max_running = 3

    [report.params_schema]
    type = "object"

An entry says all of a report: a field that it leaves out gets its default.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models.functions import Lower

from reportqueue import audit, bounds, database, fitting, locks, params_schema
from reportqueue.fitting import Misfits
from reportqueue.json_values import canonical
from reportqueue.models import Report

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 10_000
TABLE = "report"
FIELDS = [one.name for one in Report._meta.concrete_fields if one.name not in ("created_at", "updated_at")]
TABLES = ("params_schema", "default_params")
_HUGE = re.compile(rb"[0-9][0-9_]{4000,}")
_HEADER = re.compile(rf"\s*\[\[\s*{TABLE}\s*\]\]")
_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")


class BadCatalogueFile(Exception):
    """The file cannot be loaded; the message names the line and the remedy."""


@dataclass(frozen=True)
class Entry:
    """A report of the file, with its place there."""

    report: Report
    _place: int
    _reader: _Reader

    def line(self, name: str) -> int:
        """The line of one of its fields."""
        return self._reader.line(self._place, name)

    def refuse(self, name: str, text: str) -> BadCatalogueFile:
        """The refusal of one of its fields."""
        return self._reader.refusal(self.line(name), text)

    def refusal(self, error: ValidationError) -> BadCatalogueFile:
        """The refusal of its first field that is wrong."""
        name, messages = next(iter(error.message_dict.items()))
        return self.refuse(name, f"{name}: {' '.join(messages)}")


@dataclass
class Change:
    """What loading the file does to one report."""

    report: Report
    added: bool
    fields: dict[str, tuple[Any, Any]]
    """Of a report that is there already: the fields that differ, with the values before and after."""
    misfits: Misfits = field(default_factory=Misfits)
    """Its schedules that do not fit it."""


@dataclass
class Plan:
    """What loading the file does."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    missing: list[Report] = field(default_factory=list)
    """Reports of the database that the file does not have: they stay."""


def read(path: Path) -> list[Entry]:
    """The reports of a file, each valid by itself. Raises `BadCatalogueFile`."""
    try:
        data = _bytes(path)
    except OSError as error:
        raise BadCatalogueFile(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadCatalogueFile(f"{path} has more than {MAX_FILE_BYTES:,} bytes, the most that a catalogue may have.")
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadCatalogueFile(f"{path}, line {_line_at(data, error.start)}: this is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadCatalogueFile(f"{path}{_said_line(error, data)}: this is not TOML: {_said(error)}.") from None
    except ValueError:  # Python reads no numbers of thousands of digits
        found = _HUGE.search(data)
        line = f", line {_line_at(data, found.start())}" if found else ""
        raise BadCatalogueFile(f"{path}{line}: this number has too many digits. Nothing was changed.") from None
    return list(_Reader(path, text).entries(content))


def load(entries: list[Entry], *, dry_run: bool = False) -> Plan:
    """Write the reports of a file, all or none; returns what was done. Raises `BadCatalogueFile`, `RowBusy`.

    `dry_run`: everything is undone at the end, so that it refuses just what a load refuses.
    """
    done = Plan()
    with suppress(_Undone), locks.bounded(lock="reportqueue:catalogue"):
        done = _compared(entries)
        _refuse_taken_names(entries)
        for change in done.changes:  # two reports may swap their names
            if "name" in change.fields:
                Report.objects.filter(pk=change.report.pk).update(name=f"\N{HORIZONTAL ELLIPSIS}{uuid.uuid4().hex}")
                audit.was(change.report, name=change.fields["name"][0])
        where = {entry.report.pk: entry for entry in entries}
        for change in done.changes:
            try:
                change.report.save(force_insert=change.added)
            except ValidationError as error:
                raise where[change.report.pk].refusal(error) from None
        budget = params_schema.call_budget()
        for change in done.changes:
            if change.added or fitting.FIELDS.intersection(change.fields):
                change.misfits = fitting.misfits(change.report, budget)
        if dry_run:
            raise _Undone
    return done


class _Undone(Exception):
    """Nothing is to be kept."""


def _compared(entries: list[Entry]) -> Plan:
    """What the file changes. The reports of the database are locked until the transaction ends."""
    known = {report.pk: report for report in Report.objects.select_for_update().order_by("pk")}
    found = Plan()
    for report in (entry.report for entry in entries):
        there = known.pop(report.pk, None)
        if there is None:
            found.changes.append(Change(report, added=True, fields={}))
            continue
        pairs = {name: (getattr(there, name), getattr(report, name)) for name in FIELDS}
        differing = {name: pair for name, pair in pairs.items() if canonical(pair[0]) != canonical(pair[1])}
        if differing:
            report.created_at = there.created_at
            report._state.adding = False
            found.changes.append(Change(report, added=False, fields=differing))
        else:
            found.unchanged += 1
    found.missing = sorted(known.values(), key=lambda report: report.pk)
    return found


def _refuse_taken_names(entries: list[Entry]) -> None:
    """Refuse two reports of one name, as the database compares names."""
    own = {entry.report.pk: entry for entry in entries}
    others = Report.objects.exclude(pk__in=own).annotate(small=Lower("name")).values_list("small", "pk")
    taken = dict(others)
    small = _small([entry.report.name for entry in entries])
    for entry, name in zip(entries, small, strict=True):
        holder = taken.setdefault(name, entry.report.pk)
        if holder == entry.report.pk:
            continue
        if holder in own:
            text = f"is that of the report at line {own[holder].line('name')}, too: each has its own."
        else:
            text = f"is that of report {holder}, which is in the database and not in the file. Rename one of them."
        raise entry.refuse("name", f"name {entry.report.name!r} {text}")


def _small(names: list[str]) -> list[str]:
    with database.connection().cursor() as cursor:
        cursor.execute(
            "SELECT lower(name) FROM unnest(%s::text[]) WITH ORDINALITY AS one (name, place) ORDER BY place", [names]
        )
        return [row[0] for row in cursor.fetchall()]


def _bytes(path: Path) -> bytes:
    """The bytes of a file, and of a file that is too large the first. Raises `OSError`, also for what is no file."""
    # Without O_NONBLOCK, to open a pipe waits for who writes into it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(MAX_FILE_BYTES + 1)


class _Reader:
    """Makes reports of a file's content; every refusal names a line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()
        self._headers = [number for number, line in enumerate(self._lines, start=1) if _HEADER.match(line)]

    def entries(self, content: dict[str, Any]) -> Iterator[Entry]:
        """The reports, in the order of the file. Raises `BadCatalogueFile`."""
        for name in content:
            if name != TABLE:
                raise self.refusal(self._line_of(name, 1), f"{name!r} is unknown; a catalogue has [[{TABLE}]] tables.")
        entries = content.get(TABLE, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self.refusal(self._line_of(TABLE, 1), f"Write each report as a table [[{TABLE}]].")
        if len(entries) > MAX_ENTRIES:
            raise self.refusal(1, f"The file has {len(entries):,} reports; a catalogue has at most {MAX_ENTRIES:,}.")
        seen: dict[int, int] = {}
        for place, entry in enumerate(entries):
            report = self._report(place, entry)
            if (earlier := seen.setdefault(report.pk, place)) != place:
                line = self.line(earlier, "report_id")
                text = f"report_id {report.pk} is that of the report at line {line}, too: each has its own."
                raise self.refusal(self.line(place, "report_id"), text)
            yield Entry(report, place, self)

    def _report(self, place: int, entry: dict[str, Any]) -> Report:
        for name in entry:
            if name not in FIELDS:
                text = f"{name!r} is unknown; the fields of a report are {', '.join(FIELDS)}."
                raise self.refusal(self.line(place, name), text)
        for name in ("report_id", "name"):
            if name not in entry:
                raise self.refusal(self.line(place, ""), f"This report has no {name}.")
        for name, value in entry.items():  # Django would make something else of a value of another type
            if text := _type_problem(name, value):
                raise self.refusal(self.line(place, name), f"{name}: {text}")
        report = Report(**entry)
        try:
            report.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            raise Entry(report, place, self).refusal(error) from None
        return report

    def line(self, place: int, name: str) -> int:
        """The line of an entry's field, or of the entry."""
        begin = self._headers[place] if place < len(self._headers) else 1
        end = self._headers[place + 1] if place + 1 < len(self._headers) else len(self._lines) + 1
        return self._line_of(name, begin, end) if name else begin

    def _line_of(self, name: str, begin: int, end: int | None = None) -> int:
        quoted = re.escape(name)
        field = re.compile(
            rf"""\s*(?:["']?{quoted}["']?\s*[=.]|\[+\s*(?:{TABLE}\s*\.\s*)?["']?{quoted}["']?\s*[\].])"""
        )
        numbered = enumerate(self._lines[begin - 1 : end], start=begin)
        return next((number for number, line in numbered if field.match(line)), begin)

    def refusal(self, line: int, text: str) -> BadCatalogueFile:
        return BadCatalogueFile(f"{self._path}, line {line}: {text} Nothing was changed.")


def _type_problem(name: str, value: Any) -> str:
    """What is wrong with the type of a value, or with a number; empty if nothing is."""
    if name in bounds.NUMBERS:
        return bounds.number_problem(name, value)
    if name in TABLES:
        return "" if isinstance(value, dict) else "Must be a table."
    return "" if isinstance(value, str) else "Must be a text in quotes."


def _line_at(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _said_line(error: Exception, data: bytes) -> str:
    found = _LINE.search(str(error))
    if found is None:
        return ""
    return f", line {found[1] or _line_at(data.rstrip(), len(data))}"


def _said(error: Exception) -> str:
    return _LINE.sub("", str(error)).strip().rstrip(".")[:200]
