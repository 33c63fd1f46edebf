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

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from reportqueue import bounds, locks
from reportqueue.models import Report

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 10_000
TABLE = "report"
FIELDS = [one.name for one in Report._meta.concrete_fields if one.name not in ("created_at", "updated_at")]
_HEADER = re.compile(rf"\s*\[\[\s*{TABLE}\s*\]\]")
_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")


class BadCatalogueFile(Exception):
    """The file cannot be loaded; the message names the line and the remedy."""


@dataclass(frozen=True)
class Change:
    """What loading the file does to one report."""

    report: Report
    added: bool
    fields: dict[str, tuple[Any, Any]]
    """Of a report that is there already: the fields that differ, with the values before and after."""


@dataclass
class Plan:
    """What loading the file does."""

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    missing: list[Report] = field(default_factory=list)
    """Reports of the database that the file does not have: they stay."""


def read(path: Path) -> list[Report]:
    """The reports of a file, each valid by itself. Raises `BadCatalogueFile`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadCatalogueFile(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadCatalogueFile(f"{path} has {len(data):,} bytes; a catalogue has at most {MAX_FILE_BYTES:,}.")
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadCatalogueFile(f"{path}, line {_line_at(data, error.start)}: this is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadCatalogueFile(f"{path}{_said_line(error, data)}: this is not TOML: {_said(error)}.") from None
    return list(_Reader(path, text).reports(content))


def plan(reports: list[Report]) -> Plan:
    """Compare the reports of a file with the database."""
    known = {report.pk: report for report in Report.objects.all()}
    found = Plan()
    for report in reports:
        there = known.pop(report.pk, None)
        if there is None:
            found.changes.append(Change(report, added=True, fields={}))
            continue
        differing = {
            name: (getattr(there, name), getattr(report, name))
            for name in FIELDS
            if getattr(there, name) != getattr(report, name)
        }
        if differing:
            report.created_at = there.created_at
            report._state.adding = False
            found.changes.append(Change(report, added=False, fields=differing))
        else:
            found.unchanged += 1
    found.missing = sorted(known.values(), key=lambda report: report.pk)
    return found


def load(reports: list[Report]) -> Plan:
    """Write the reports of a file, all or none; returns what was done. Raises `BadCatalogueFile` for a taken name."""
    with locks.bounded(lock="reportqueue:catalogue"):
        done = plan(reports)
        renamed = [change.report.pk for change in done.changes if "name" in change.fields]
        for pk in renamed:  # two reports may swap their names
            Report.objects.filter(pk=pk).update(name=f"\N{HORIZONTAL ELLIPSIS}{pk}")
        for change in done.changes:
            report = change.report
            taken = Report.objects.filter(name__iexact=report.name).exclude(pk=report.pk).first()
            if taken is not None:
                raise BadCatalogueFile(
                    f"Report {report.pk} cannot be called {report.name!r}: that is the name of report {taken.pk}, "
                    "which is in the database and not in the file. Rename one of them. Nothing was changed."
                )
            report.save(force_insert=change.added)
    return done


class _Reader:
    """Makes reports of a file's content; every refusal names a line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()
        self._headers = [number for number, line in enumerate(self._lines, start=1) if _HEADER.match(line)]

    def reports(self, content: dict[str, Any]) -> Iterator[Report]:
        """The reports, in the order of the file. Raises `BadCatalogueFile`."""
        for name in content:
            if name != TABLE:
                raise self._refusal(self._line_of(name, 1), f"{name!r} is unknown; a catalogue has [[{TABLE}]] tables.")
        entries = content.get(TABLE, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._refusal(self._line_of(TABLE, 1), f"Write each report as a table [[{TABLE}]].")
        if len(entries) > MAX_ENTRIES:
            raise self._refusal(1, f"The file has {len(entries):,} reports; a catalogue has at most {MAX_ENTRIES:,}.")
        seen: dict[tuple[str, Any], int] = {}
        for place, entry in enumerate(entries):
            report = self._report(place, entry)
            for what, own in (("report_id", report.pk), ("name", report.name.lower())):
                if (earlier := seen.setdefault((what, own), place)) != place:
                    line = self._line(earlier, what)
                    text = f"{what} {entry[what]!r} is that of the report at line {line}, too: each has its own."
                    raise self._refusal(self._line(place, what), text)
            yield report

    def _report(self, place: int, entry: dict[str, Any]) -> Report:
        for name in entry:
            if name not in FIELDS:
                text = f"{name!r} is unknown; the fields of a report are {', '.join(FIELDS)}."
                raise self._refusal(self._line(place, name), text)
        for name in ("report_id", "name"):
            if name not in entry:
                raise self._refusal(self._line(place, ""), f"This report has no {name}.")
        if text := bounds.number_problem("report_id", entry["report_id"]):
            raise self._refusal(self._line(place, "report_id"), f"report_id: {text}")
        report = Report(**entry)
        try:
            report.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            name, messages = next(iter(error.message_dict.items()))
            raise self._refusal(self._line(place, name), f"{name}: {' '.join(messages)}") from None
        return report

    def _line(self, place: int, name: str) -> int:
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

    def _refusal(self, line: int, text: str) -> BadCatalogueFile:
        return BadCatalogueFile(f"{self._path}, line {line}: {text} Nothing was changed.")


def _line_at(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _said_line(error: Exception, data: bytes) -> str:
    found = _LINE.search(str(error))
    if found is None:
        return ""
    return f", line {found[1] or _line_at(data.rstrip(), len(data))}"


def _said(error: Exception) -> str:
    return _LINE.sub("", str(error)).strip().rstrip(".")[:200]
