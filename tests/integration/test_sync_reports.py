"""`manage.py sync_reports`: a file is loaded whole or not at all, and every refusal names its line."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from reportqueue.models import Report

pytestmark = pytest.mark.django_db
FILE = """\
# The catalogue.
[[report]]
report_id = 1
name = "Weather"
max_running = 3

[report.params_schema]
type = "object"
required = ["day"]

[[report]]
report_id = 2
name = "Stocks"
default_params = {years = [2024, 2025]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "reports.toml"
    file.write_text(FILE)
    return file


def sync(path: Path, *options: str) -> str:
    out = StringIO()
    call_command("sync_reports", str(path), *options, stdout=out)
    return out.getvalue()


def refusal(path: Path, text: str | bytes) -> str:
    """What is said of another text of the file; nothing was changed."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = list(Report.objects.values())
    with pytest.raises(CommandError) as refused:
        sync(path)
    assert list(Report.objects.values()) == before
    return str(refused.value)


def test_reports_are_added_and_a_second_time_nothing_changes(path: Path):
    assert sync(path) == "+ Weather (1)\n+ Stocks (2)\n2 added, 0 changed, 0 as they were.\n"
    weather = Report.objects.get(pk=1)
    assert (weather.max_running, weather.params_schema) == (3, {"type": "object", "required": ["day"]})
    assert Report.objects.get(pk=2).default_params == {"years": [2024, 2025]}
    assert sync(path) == "0 added, 0 changed, 2 as they were.\n"


def test_a_change_is_shown_and_what_the_file_leaves_out_gets_its_default(path: Path):
    sync(path)
    path.write_text(FILE.replace("max_running = 3\n", "").replace("Stocks", "Shares"))
    said = sync(path)
    assert "~ Weather (1)\n    max_running: 3 -> none\n" in said
    assert '~ Shares (2)\n    name: "Stocks" -> "Shares"\n' in said
    assert Report.objects.get(pk=1).max_running is None


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path):
    said = sync(path, "--dry-run")
    assert said == "+ Weather (1)\n+ Stocks (2)\n2 added, 0 changed, 0 as they were; nothing was changed.\n"
    assert not Report.objects.exists()


def test_a_report_that_the_file_does_not_have_stays(path: Path):
    Report(report_id=9, name="By hand").save()
    said = sync(path)
    assert "? By hand (9): not in the file, stays as it is\n" in said
    assert said.endswith("2 added, 0 changed, 0 as they were, 1 not in the file.\n")
    assert Report.objects.filter(pk=9).exists()


def test_two_reports_may_swap_their_names(path: Path):
    sync(path)
    path.write_text(FILE.replace("Weather", "x").replace("Stocks", "Weather").replace('"x"', '"Stocks"'))
    sync(path)
    assert dict(Report.objects.values_list("pk", "name")) == {1: "Stocks", 2: "Weather"}


@pytest.mark.parametrize(
    ("wrong", "right", "line", "said"),
    [
        ("max_runing = 3", "max_running = 3", 5, "'max_runing' is unknown; the fields of a report are report_id, name"),
        ("max_running = 0", "max_running = 3", 5, "max_running: "),
        ("report_id = 1", "report_id = 2", 12, "report_id 1 is that of the report at line 3, too"),
        ('name = "weather"', 'name = "Stocks"', 13, "name 'weather' is that of the report at line 4, too"),
        ("max_running = ", "max_running = 3", 5, "this is not TOML"),
        ('type = "objekt"', 'type = "object"', 7, "params_schema: type: 'objekt' is not"),
        ("reports = 1", "# The catalogue.", 1, "'reports' is unknown; a catalogue has [[report]] tables."),
        ('report_id = "1"', "report_id = 1", 3, "report_id: Must be a whole number"),
        ("[[report]]\n", "[[report]]\nreport_id = 2\n", 11, "This report has no report_id."),
        ("rate_limit = 3", "max_running = 3", 2, "rate_period_seconds: A rate is"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(path: Path, wrong: str, right: str, line: int, said: str):
    assert right in FILE
    text = refusal(path, FILE.replace(right, wrong, 1))
    assert f"{path}, line {line}: " in text
    assert said in text


def test_a_file_that_is_no_text_is_refused(path: Path):
    assert f"{path}, line 2: this is not UTF-8." in refusal(path, b"# fine\n\xff\n")


def test_a_file_that_ends_too_soon_is_refused(path: Path):
    assert f"{path}, line 2: this is not TOML" in refusal(path, '[[report]]\nname = "x')


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(CommandError, match="cannot be read"):
        sync(tmp_path / "nothing.toml")


def test_a_name_of_a_report_that_the_file_does_not_have_is_refused(path: Path):
    Report(report_id=9, name="Stocks").save()
    text = refusal(path, FILE)
    assert "Report 2 cannot be called 'Stocks': that is the name of report 9" in text
