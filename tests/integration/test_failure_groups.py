"""Failed rows in groups: what a group says, what is muted, and that the cost does not follow the history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reportqueue import failures, queue
from reportqueue.errors import RowNotFound
from reportqueue.models import MutedFailure, Report, ReportQueue
from reportqueue.queue import failure_groups
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db
TABLE = ReportQueue._meta.db_table
NO_ROWS = (
    'Traceback (most recent call last):\n  File "/srv/app/weather.py", line 7, in make\nValueError: order {} is empty'
)


def failed(error: str, minutes: float = 1, **fields: Any) -> ReportQueue:
    """A row that failed with this error so many minutes ago."""
    known = {"error": error, "fingerprint": failures.fingerprint(error), "finished_at": minutes_ago(minutes)}
    return build_row(status=Status.FAILED, **known, **fields)


def test_two_thousand_rows_are_three_failures():
    row = failed(NO_ROWS.format(0))
    left_out = ("id", "processed", "error", "fingerprint")
    copied = [field.attname for field in ReportQueue._meta.concrete_fields if field.attname not in left_out]
    errors = [NO_ROWS.format(number) for number in range(1, 1_000)]
    errors += [f"KeyError: {number}" for number in range(700)] + [f"Run {number} is gone." for number in range(300)]
    ReportQueue.objects.bulk_create(
        ReportQueue(
            error=error, fingerprint=failures.fingerprint(error), **{name: getattr(row, name) for name in copied}
        )
        for error in errors
    )
    found = queue.grouped_failures()
    assert [(group.title, group.count) for group in found.groups] == [
        ("ValueError: order <n> is empty", 1_000),
        ("KeyError: <n>", 700),
        ("Run <n> is gone.", 300),
    ]
    assert (found.count, found.more, found.complete) == (2_000, False, True)


def test_a_group_says_what_failed_when_and_which_reports():
    Report(report_id=7, name="Weather").save()
    failed(NO_ROWS.format(1), 30, report_id=8)
    failed(NO_ROWS.format(2), 20, report_id=7)
    newest = failed(NO_ROWS.format(3), 10, report_id=7)
    failed("KeyError: 1", 5)
    build_row(status=Status.SUCCEEDED)
    build_row(status=Status.FAILED, error="before groups existed")
    group, other = queue.grouped_failures().groups
    assert (group.title, group.frame) == ("ValueError: order <n> is empty", "weather.py, in make")
    assert (group.count, group.more, group.example, group.muted) == (3, False, newest.pk, None)
    assert (group.reports, group.more_reports) == ([(7, "Weather"), (8, "")], False)
    assert group.last_at == newest.finished_at
    assert group.last_at - group.first_at == pytest.approx(timedelta(minutes=20), abs=timedelta(seconds=1))
    assert (other.title, other.count) == ("KeyError: <n>", 1)


@pytest.mark.parametrize(("period", "count"), [("1h", 1), ("24h", 2), ("7d", 3), ("all", 4)])
def test_only_rows_of_the_period_count(period: str, count: int):
    for hours in (0.5, 20, 6 * 24, 400 * 24):
        failed(NO_ROWS.format(hours), hours * 60)
    failed("KeyError: 1", 500 * 24 * 60)
    (group, *others) = queue.grouped_failures(period).groups
    assert group.count == count
    assert len(others) == (period == "all")
    assert queue.grouped_failures(period).now - group.first_at < timedelta(days=401)


def test_a_requeued_row_leaves_its_group():
    row = failed(NO_ROWS.format(1))
    queue.requeue(row.pk)
    assert queue.grouped_failures("all").groups == []


def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch):
    for number in range(7):
        failed(NO_ROWS.format(number), report_id=number)
    for number, word in enumerate("abcdef"):
        failed(f"KeyError: no {word}", 10 + number)
    monkeypatch.setattr(failure_groups, "COUNTED", 5)
    group = queue.grouped_failures().groups[0]
    assert (group.count, group.more, len(group.reports), group.more_reports) == (5, True, 5, True)
    assert queue.count_failed_like(group.fingerprint) == (5, True)
    assert queue.grouped_failures().more
    monkeypatch.setattr(failure_groups, "MAX_GROUPS", 3)
    found = queue.grouped_failures()
    assert {one.title for one in found.groups} == {group.title, "KeyError: no a", "KeyError: no b"}  # the newest
    assert (found.complete, found.more) == (False, True)
    monkeypatch.setattr(failure_groups, "WALKED", 2)
    assert not queue.grouped_failures().complete
    monkeypatch.setattr(failure_groups, "LATEST", 0)
    assert len(queue.grouped_failures().groups) == 2


def test_what_fails_just_now_is_shown_however_many_failures_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failure_groups, "WALKED", 3)
    for word in "abcdefghijklmnopqrst":
        failed(f"KeyError: no {word}", minutes=100)
    acute = [failed(error) for error in ("ValueError: acute", "TypeError: acute", "OSError: acute")]
    found = queue.grouped_failures("1h")
    assert {one.fingerprint for one in found.groups} == {row.fingerprint for row in acute}
    assert not found.complete


def test_a_long_error_has_the_title_that_its_fingerprint_was_made_of():
    error = "x" * 20_000 + "\n" + NO_ROWS.format(1)
    failed(error)
    (group,) = queue.grouped_failures().groups
    assert (group.title, group.fingerprint) == (failures.title(error), failures.fingerprint(error))


def test_a_muted_group_is_apart_and_is_not_counted():
    row = failed(NO_ROWS.format(1))
    failed("KeyError: 1")
    muted = queue.mute(row.fingerprint, by="ada", note="known")
    found = queue.grouped_failures()
    assert [(group.title, group.count) for group in found.groups] == [("KeyError: <n>", 1)]
    assert [(group.title, group.count, group.muted) for group in found.muted] == [
        ("ValueError: order <n> is empty", 1, muted)
    ]
    assert found.count == 1
    assert queue.unmute(row.fingerprint)
    assert not queue.unmute(row.fingerprint)
    assert queue.grouped_failures().count == 2
    assert queue.grouped_failures().muted == []


def test_a_muted_group_without_rows_can_still_be_found():
    row = failed(NO_ROWS.format(1))
    queue.mute(row.fingerprint)
    ReportQueue.objects.all().delete()
    (group,) = queue.grouped_failures().muted
    assert (group.title, group.count, group.example) == ("ValueError: order <n> is empty", 0, None)
    assert (group.first_at, group.last_at, group.reports) == (None, None, [])


def test_who_mutes_what_is_muted_changes_nothing():
    row = failed(NO_ROWS.format(1))
    first = queue.mute(row.fingerprint, by="ada", note="known")
    assert queue.mute(row.fingerprint, by="eve", note="mine") == first
    assert MutedFailure.objects.get().muted_by == "ada"


@pytest.mark.parametrize("fingerprint", ["0" * 16, "", "x" * 17, "' OR 1=1 --", "\u2028"])
def test_what_no_row_has_cannot_be_muted(fingerprint: str):
    failed(NO_ROWS.format(1))
    build_row(status=Status.FAILED, error="before groups existed")
    with pytest.raises(RowNotFound):
        queue.mute(fingerprint)
    assert not MutedFailure.objects.exists()


def test_a_note_that_cannot_be_stored_is_refused():
    row = failed(NO_ROWS.format(1))
    for note in ("\x00", "x" * 1_001):
        with pytest.raises(ValidationError) as refused:
            queue.mute(row.fingerprint, note=note)
        assert "note" in refused.value.message_dict


HISTORY = 20_000
RARE = {n % 50 for n in range(HISTORY - 499, HISTORY + 1) if n % 2 and n % 5}


@pytest.fixture
def history(db: None) -> None:
    """A long history of failed rows: three failures with most rows, some rare and old ones, rows in no group."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, finished_at,
                status, source, params, priority, generation, attempt, max_attempts, launch_failures, claimed_by,
                run_id, cancel_requested, error, fingerprint)
            SELECT n %% 8, n %% 7, due, due, due,
                CASE WHEN n %% 2 = 0 THEN 'succeeded' ELSE 'failed' END,
                'api', '{}', 0, 0, 0, 3, 0, '', gen_random_uuid()::text, false, 'Error: no',
                CASE WHEN n %% 2 = 0 OR n %% 5 = 0 THEN '' WHEN n > %s - 500 THEN substr(md5((n %% 50)::text), 1, 16)
                     ELSE substr(md5('often' || n %% 3), 1, 16) END
            FROM (SELECT n, now() - n * interval '1 min' AS due FROM generate_series(1, %s) n) AS row
            """,
            [HISTORY, HISTORY],
        )


def scans(call: Callable[[], object]) -> list[dict[str, Any]]:
    """Each scan of the queue's table by the statements of a call, as they are executed once more."""

    def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield plan
        for below in plan.get("Plans", []):
            yield from nodes(below)

    found: list[dict[str, Any]] = []
    with CaptureQueriesContext(connection) as ran:
        call()
    with connection.cursor() as cursor:
        for statement in [query["sql"] for query in ran]:
            if "set_config" in statement:
                cursor.execute(statement)
            elif "reportqueue_reportqueue" in statement and "FROM" in statement:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
                (answer,) = cursor.fetchone()
                (plan,) = json.loads(answer) if isinstance(answer, str) else answer
                found += [
                    node for node in nodes(plan["Plan"]) if node.get("Relation Name") or "Bitmap" in node["Node Type"]
                ]
    return [node for node in found if node.get("Relation Name", TABLE) == TABLE]


def read(found: list[dict[str, Any]]) -> int:
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]) for node in found
    )


def with_statistics() -> Iterator[str]:
    """What the planner knows of the table: nothing, how many rows it has, everything."""
    with connection.cursor() as cursor:
        # Autovacuum, which analyses the table at any moment, would wait for these changes, and ANALYZE below for it.
        cursor.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        # What autovacuum has seen of other tests' rows would be worse than nothing: rows that are quite unlike these.
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", [TABLE])
        cursor.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0 "
            "WHERE oid IN (SELECT %s::regclass UNION SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass)",
            [TABLE, TABLE],
        )
    yield "nothing"
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_class SET reltuples = %s, relpages = pg_relation_size(oid) / current_setting('block_size')::int "
            "WHERE relname = %s",
            [HISTORY, TABLE],
        )
    yield "how many rows it has"
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reportqueue_reportqueue")
    yield "everything"


@pytest.mark.usefixtures("history")
def test_groups_are_found_by_the_index_alone_whatever_the_statistics_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failure_groups, "COUNTED", 100)
    queue.mute(ReportQueue.objects.exclude(fingerprint="").latest("trigger_time").fingerprint)
    for statistics in with_statistics():
        for period, groups in (("1h", 3), ("all", 3 + len(RARE))):
            found = queue.grouped_failures(period)
            assert len(found.groups) + len(found.muted) == groups
            seen = scans(lambda asked=period: queue.grouped_failures(asked))  # type: ignore[misc]
            assert {node.get("Index Name") for node in seen} == {"reportqueue_failures"}, (statistics, period)
            # A step for each fingerprint; of each group its newest and its oldest row, 101 to count, 100 for reports.
            assert read(seen) <= 3 + len(RARE) + groups * (2 + 101 + 100), (statistics, period)
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_sort")
        assert cursor.fetchone() == ("on",)


@pytest.mark.usefixtures("history")
def test_the_newest_of_very_many_failures_are_found_by_an_index(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failure_groups, "WALKED", 1)
    monkeypatch.setattr(failure_groups, "LATEST", 100)
    monkeypatch.setattr(failure_groups, "MAX_GROUPS", 0)
    for statistics in with_statistics():
        seen = scans(lambda: queue.grouped_failures("1h"))
        assert {node.get("Index Name") for node in seen} == {"reportqueue_failures", "reportqueue_failed"}, statistics
        assert read(seen) <= 2 + 2 * 100, statistics


@pytest.mark.usefixtures("history")
def test_a_group_is_counted_and_muted_by_an_index(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failure_groups, "COUNTED", 100)
    often = ReportQueue.objects.exclude(fingerprint="").latest("trigger_time").fingerprint
    rare = ReportQueue.objects.exclude(fingerprint="").earliest("trigger_time").fingerprint
    for statistics in with_statistics():
        for fingerprint, rows in ((often, 101), (rare, 10), ("0" * 16, 0)):
            seen = scans(lambda asked=fingerprint: queue.count_failed_like(asked))  # type: ignore[misc]
            assert {node.get("Index Name") for node in seen} == {"reportqueue_failure_list"}, statistics
            assert read(seen) <= rows, statistics
        seen = scans(lambda: queue.mute(often))
        assert {node.get("Index Name") for node in seen} == {"reportqueue_failures"}, statistics
        queue.unmute(often)
