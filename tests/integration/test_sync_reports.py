"""`manage.py sync_reports`: a file is loaded whole or not at all, and every refusal names its line."""

from __future__ import annotations

import os
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from reportqueue import fitting, params_schema
from reportqueue.models import AuditEntry, Report
from tests.conftest import build_schedule

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
    counts = "2 would be added, 0 would be changed, 0 would stay as they are; nothing was changed."
    assert said == f"+ Weather (1)\n+ Stocks (2)\n{counts}\n"
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
    told = AuditEntry.objects.filter(action="change").values_list("object_id", "changes")
    assert dict(told) == {"1": {"name": ["Weather", "Stocks"]}, "2": {"name": ["Stocks", "Weather"]}}


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
    assert f"{path}, line 13: name 'Stocks' is that of report 9, which is in the database and not in the file" in text


def test_a_dry_run_refuses_what_a_load_refuses(path: Path):
    Report(report_id=9, name="Stocks").save()
    path.write_text(FILE)
    said = []
    for options in ([], ["--dry-run"]):
        with pytest.raises(CommandError) as refused:
            sync(path, *options)
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "names",
    [("\N{LATIN SMALL LETTER DOTLESS I}x", "ix"), ("ß", "ss"), ("K", "\N{KELVIN SIGN}"), ("Σ", "ς"), ("İ", "i")],
)
def test_names_are_the_same_if_the_database_says_so(path: Path, names: tuple[str, str]):
    """Whatever it says, nobody else's report is blamed."""
    Report(report_id=9, name="Other").save()
    path.write_text(FILE.replace("Weather", names[0]).replace("Stocks", names[1]))
    with connection.cursor() as cursor:
        cursor.execute("SELECT lower(%s) = lower(%s)", names)
        same = cursor.fetchone()[0]
    if not same:
        sync(path)
        for pk, name in enumerate(names, start=1):
            assert Report.objects.called(name).get().pk == pk
        return
    for options in ([], ["--dry-run"]):
        with pytest.raises(CommandError, match=f"line 13: name '{names[1]}' is that of the report at line 4, too"):
            sync(path, *options)


def test_a_name_that_looks_like_a_stand_in_is_a_name(path: Path):
    sync(path)
    path.write_text(FILE.replace("Weather", "x").replace("Stocks", "…1").replace('"x"', '"…2"'))
    assert "2 changed" in sync(path)
    path.write_text(FILE.replace("Weather", "x").replace("Stocks", "…2").replace('"x"', '"…1"'))
    assert "2 changed" in sync(path)


@pytest.mark.parametrize(
    ("wrong", "right", "line", "said"),
    [
        ("report_id = " + "9" * 5_000, "report_id = 1", 3, "this number has too many digits"),
        ("report_id = " + "9" * 4_000, "report_id = 1", 3, "report_id: Must be a whole number"),
        ("priority = inf", "max_running = 3", 5, "priority: Must be a whole number"),
        ("priority = nan", "max_running = 3", 5, "priority: Must be a whole number"),
        ("max_running = 3.9", "max_running = 3", 5, "max_running: Must be a whole number"),
        ("max_running = 3.0", "max_running = 3", 5, "max_running: Must be a whole number"),
        ('max_running = "3"', "max_running = 3", 5, "max_running: Must be a whole number"),
        ("max_attempts = true", "max_running = 3", 5, "max_attempts: Must be a whole number"),
        ("deadline_seconds = 2026-12-01", "max_running = 3", 5, "deadline_seconds: Must be a whole number"),
        ('description = ["a"]', "max_running = 3", 5, "description: Must be a text in quotes."),
        ("owner = {a = 1}", "max_running = 3", 5, "owner: Must be a text in quotes."),
        ("name = 5", 'name = "Weather"', 4, "name: Must be a text in quotes."),
        ("route = true", "max_running = 3", 5, "route: Must be a text in quotes."),
        ("default_params = [1]", "max_running = 3", 5, "default_params: Must be a table."),
        ("default_params = {day = 2026-12-01}", "max_running = 3", 5, "Must be plain JSON"),
        ("default_params = {day = nan}", "max_running = 3", 5, "default_params: NaN, infinity"),
        ('type = "array"', 'type = "object"', 7, "params_schema: type: must be 'object'"),
        ("default_params = {day = 1}", "max_running = 3", 5, "default_params.day: 1 is not of type 'string'."),
    ],
)
def test_nothing_becomes_another_value_than_the_file_has(path: Path, wrong: str, right: str, line: int, said: str):
    assert right in FILE
    schema = '[report.params_schema]\nproperties = {day = {type = "string"}}'
    text = refusal(path, FILE.replace(right, wrong, 1).replace("[report.params_schema]", schema))
    assert f"{path}, line {line}: " in text
    assert said in text


def test_true_in_place_of_1_is_a_change(path: Path):
    sync(path)
    path.write_text(FILE.replace("[2024, 2025]", "1"))
    sync(path)
    path.write_text(FILE.replace("[2024, 2025]", "true"))
    assert 'default_params: {"years": 1} -> {"years": true}' in sync(path)
    assert Report.objects.get(pk=2).default_params == {"years": True}


def test_what_is_no_file_of_a_catalogue_is_refused_at_once(tmp_path: Path):
    sparse, pipe = tmp_path / "sparse.toml", tmp_path / "pipe.toml"
    with sparse.open("wb") as file:
        file.truncate(2_500_000_000)
    os.mkfifo(pipe)
    began = time.monotonic()
    for path, said in (
        (sparse, "has more than 8,388,608 bytes"),
        (pipe, "it is not a regular file"),
        (Path("/dev/zero"), "it is not a regular file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(CommandError, match=said):
            sync(path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_schedules_that_no_longer_fit_are_named(path: Path, options: list[str]):
    sync(path)
    unfit, fit = (build_schedule(report_id=1, params={"day": "x", **more}) for more in ({"x": 1}, {}))
    build_schedule(report_id=2, params={"day": 5})
    path.write_text(FILE.replace("max_running = 3", "max_running = 4"))
    assert "do not fit" not in sync(path, *options)
    path.write_text(
        FILE.replace("[report.params_schema]", '[report.params_schema]\nproperties = {x = {type = "null"}}')
    )
    said = sync(path, *options)
    assert f"! schedules of Weather (1) with parameters that do not fit the schema: #{unfit.pk}. They go on" in said
    assert f"#{fit.pk}" not in said


def test_schedules_beyond_the_bounds_of_the_check_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        build_schedule(report_id=1, params={})
    monkeypatch.setattr(fitting, "CHECKED", 2)
    assert "not compared with the schema, since there are too many: 1\n" in sync(path)
    monkeypatch.setattr(params_schema, "MAX_CALL_STEPS", params_schema.MAX_STEPS)
    path.write_text(FILE.replace('"day"', '"year"'))
    assert "not compared with the schema, since there are too many: 2\n" in sync(path)
