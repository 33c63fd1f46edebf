"""docs/catalogue.md: its file is loaded, its code is executed and its commands are run, in the order of the page."""

from __future__ import annotations

import shlex
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from reportqueue.models import Pause, Report, ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row
from tests.documents import Block, blocks

pytestmark = pytest.mark.django_db
PAGE = "docs/catalogue.md"


def manage(block: Block) -> list[str]:
    """What each command of a block for a terminal says."""
    said = []
    for line in block.text.splitlines():
        python, program, *words = shlex.split(line)
        assert (python, program) == ("python", "manage.py"), line
        out = StringIO()
        call_command(*words, stdout=out)
        said.append(out.getvalue())
    return said


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (file,) = blocks(PAGE, "")
    (tmp_path / "reports.toml").write_text(file.text)
    load, stop, act = blocks(PAGE, "sh")
    tried, loaded = manage(load)
    assert "nothing was changed" in tried
    assert "1 added" in loaded
    report = Report.objects.get()
    assert (report.name, report.route, report.max_running) == ("Monthly statement", "finance", 10)

    names: dict[str, object] = {}
    enqueue, again = (block for block in blocks(PAGE, "python") if "queue.enqueue" in block.text)
    for block in (enqueue, again):
        exec(compile(block.text, str(block), "exec"), names)  # noqa: S102
    assert ReportQueue.objects.count() == 1

    paused, status, resumed = manage(stop)
    assert "Monthly statement" in paused
    assert "Monthly statement" in status
    assert "wrong totals" in status
    assert resumed.startswith("Resumed")
    assert not Pause.objects.exists()

    build_row(pk=17, report_id=300, route="finance", status=Status.FAILED)
    listed, shown, tried, requeued, cancelled = manage(act)
    assert "#17 " in listed
    assert "Monthly statement" in shown
    assert "would requeue 1 of 1 failed row: #17" in tried
    assert requeued == "requeue: 1 queued.\n"
    assert cancelled == "cancel: 2 cancelled.\n"
