"""The admin in German: every text of the code and the templates is translated, and the pages show it."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

import reportqueue
from project import demo_history
from reportqueue.models import Report
from tests.conftest import build_row, build_schedule

ROOT = Path(reportqueue.__file__).parent
FOLDER = ROOT / "locale" / "de" / "LC_MESSAGES"
CALLS = {"gettext", "gettext_lazy", "_", "ngettext", "ngettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w*\}|%%")
PAGES = ["", "reportqueue/", "reportqueue/failures/", "reportschedule/", "reportschedule/agenda/", "auditentry/"]


@pytest.fixture(scope="module")
def catalogue() -> dict[Any, str]:
    with (FOLDER / "django.mo").open("rb") as file:
        return dict(gettext.GNUTranslations(file)._catalog)  # type: ignore[attr-defined]  # there is no other way


def texts_of_code() -> Iterator[tuple[str, Path]]:
    for path in ROOT.rglob("*.py"):
        if "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value, path


def texts_of_templates() -> Iterator[tuple[str, Path]]:
    for path in (ROOT / "templates").rglob("*.html"):
        for text in re.findall(r'{% translate "([^"]+)"', path.read_text()):
            yield text.replace("%", "%%"), path  # as Django has it for the translators


def test_every_text_is_translated(catalogue: dict[Any, str]):
    known = {key[0] if isinstance(key, tuple) else key for key in catalogue}
    found = [*texts_of_code(), *texts_of_templates()]
    assert len(found) > 400
    missing = {text: path.name for text, path in found if text not in known}
    assert missing == {}, "run makemessages, translate, and compilemessages: see CONTRIBUTING.md"


def test_no_entry_is_empty_or_doubtful():
    source = (FOLDER / "django.po").read_text()
    assert "fuzzy" not in source
    entries = re.split(r"\n\n", source)[1:]
    assert [entry for entry in entries if re.search(r'msgstr(\[\d\])? ""\n*$', entry)] == []


def test_each_translation_has_the_placeholders_of_its_text(catalogue: dict[Any, str]):
    wrong = []
    for key, translated in catalogue.items():
        text, form = key if isinstance(key, tuple) else (key, None)
        if text == "":
            continue
        wanted, has = set(PLACEHOLDER.findall(text)), set(PLACEHOLDER.findall(translated))
        if form is None and wanted != has:
            wrong.append(text)
    assert wrong == []


@pytest.mark.django_db
def test_the_pages_are_german(admin_client: Client, settings: Any):
    settings.LANGUAGE_CODE = "de"
    Report(report_id=1, name="Wetter").save()
    demo_history.fill(60)
    schedule, row = build_schedule(), build_row()
    own = [f"reportqueue/{row.pk}/change/", f"reportschedule/{schedule.pk}/change/", "report/1/change/"]
    for page in (*PAGES, *own):
        answer = admin_client.get(f"/admin/reportqueue/{page}")
        assert answer.status_code == 200, page
        text = answer.content.decode()
        for english in ("Requeue", "Waiting for", "Failures of", "What people have done", "Queue a report", "Next run"):
            assert english not in text, (page, english)
    assert "Fehler der letzten 24 Stunden" in admin_client.get("/admin/reportqueue/").content.decode()
