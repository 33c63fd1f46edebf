"""The keeper's arithmetic, with leases shorter than the API allows, against a server that answers what a test says."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from dagster_reportqueue import counters
from dagster_reportqueue.client import QueueItem, ReportQueueClient, Started
from dagster_reportqueue.execution import leases
from dagster_reportqueue.execution.leases import STOP_AT, HeldLease, LeaseKeeper, Stop
from tests.dagster_reportqueue.front import Fault, Front, Reply
from tests.dagster_reportqueue.waiting import until

LEASE = 1.2


def beat(code: int = 200, **answer: object) -> Reply:
    """What the queue says of the one row that is renewed."""
    return Reply(200, json.dumps({"rows": [{"queue_id": 7, "code": code, "answer": answer}]}))


ALIVE = beat(lease_expires_at="2026-11-23T08:00:00Z", cancel_requested=False)
CANCELLED = beat(lease_expires_at="2026-11-23T08:00:00Z", cancel_requested=True)
GONE = beat(409, type="stale-lease", detail="gone")
ITEM = QueueItem(
    queue_id=7,
    report_id=1,
    modifier_id=2,
    trigger_time=datetime(2026, 11, 23, tzinfo=UTC),
    generation=1,
    attempt=1,
    max_attempts=3,
    run_key="7:1",
    priority=0,
    params={},
)


class Body:
    """What a keeper beats for: it notes when it was interrupted."""

    def __init__(
        self, keeper: LeaseKeeper, lease: HeldLease, interrupts: list[float], reminders: list[float], began: float
    ) -> None:
        self.keeper, self.lease, self.began = keeper, lease, began
        self.interrupts, self.reminders = interrupts, reminders


@contextmanager
def alive(front: Front, *, late: float = 0.0) -> Iterator[Body]:
    client = ReportQueueClient(front.url, "token")
    interrupts: list[float] = []
    reminders: list[float] = []
    began = time.monotonic() - late
    try:
        with LeaseKeeper(
            client,
            LEASE,  # type: ignore[arg-type]  # whole seconds outside of tests
            run_id="run",
            interrupt=lambda _, again: (interrupts if again else reminders).append(time.monotonic() - began),
        ) as keeper:
            yield Body(keeper, keeper.add(Started(ITEM, uuid4()), sent=began), interrupts, reminders, began)
    finally:
        client.close()


def test_it_beats_three_times_in_a_lease_and_lets_the_work_be(stranger: Front):
    stranger.fail(ALIVE)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat", 6)
        took = time.monotonic() - body.began
    assert 6 * LEASE / 3 - 0.05 < took < 6 * LEASE / 3 + 1
    assert (body.lease.stop, body.interrupts) == (None, [])


def test_it_ends_at_once(stranger: Front):
    stranger.fail(ALIVE)
    with alive(stranger):
        began = time.monotonic()
    assert time.monotonic() - began < 0.2


def test_it_does_not_wait_for_a_call_that_hangs(stranger: Front):
    stranger.fail(Fault.HANG)
    with alive(stranger):
        stranger.wait_for("heartbeat")
        began = time.monotonic()
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP, Fault.HANG, Reply(502), Reply(401), Reply(200, "<html>"), beat(cancel_requested="no")],
    ids=["drop", "hang", "502", "401", "html", "shape"],
)
def test_without_a_beat_the_work_is_stopped_before_the_lease_can_have_ended(stranger: Front, fault: Fault | Reply):
    stranger.fail(fault)
    with alive(stranger) as body:
        until(lambda: body.interrupts)
    assert body.lease.stop is Stop.UNREACHABLE
    assert LEASE * STOP_AT <= body.interrupts[0] < LEASE


def test_a_call_that_hangs_after_quick_failures_does_not_delay_the_stop(stranger: Front):
    stranger.fail(Fault.DROP)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat", 2)
        stranger.fail(Fault.HANG)
        until(lambda: body.interrupts)
    assert body.lease.stop is Stop.UNREACHABLE
    assert body.interrupts[0] < LEASE


def test_the_lease_counts_from_when_the_last_beat_was_sent_not_from_its_answer(stranger: Front):
    stranger.fail(ALIVE, times=1)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat")
        stranger.fail(Fault.DROP)
        until(lambda: body.interrupts)
    # Later only by as much as the machine was busy with other work when the beat was due.
    sent = stranger.calls[0].at - body.began
    assert LEASE / 3 + LEASE * STOP_AT - 0.01 <= body.interrupts[0] < sent + LEASE


def test_a_row_that_somebody_holds_is_not_renewed_and_is_soon_tried_again(stranger: Front):
    busy = {"queue_id": 7, "code": 503, "answer": {"type": "busy", "detail": "held by another transaction"}}
    fine = {"queue_id": 8, "code": 200, "answer": {"cancel_requested": False}}
    stranger.fail(Reply(200, json.dumps({"rows": [busy, fine]})))
    with alive(stranger) as body:
        other = body.keeper.add(Started(replace(ITEM, queue_id=8), uuid4()), sent=body.began)
        until(lambda: other.renewed > body.began)
        stranger.wait_for("heartbeat", 3)
        assert stranger.calls[-1].at - stranger.calls[0].at < LEASE / 2, "sooner than the next beat is due"
        until(lambda: body.interrupts)
    assert (body.lease.stop, other.stop) == (Stop.UNREACHABLE, None)
    assert body.interrupts[0] >= LEASE * STOP_AT, "only when its lease is about to end"


def test_rows_that_wait_are_soon_renewed_again_if_one_of_them_is_held(stranger: Front):
    busy = {"queue_id": 9, "code": 503, "answer": {"type": "busy", "detail": "held by another transaction"}}
    alive_one = {"queue_id": 7, "code": 200, "answer": {"cancel_requested": False}}
    stranger.fail(Reply(200, json.dumps({"rows": [alive_one, busy]})))
    with alive(stranger) as body:
        body.keeper.set_waiting({9: 1})
        until(lambda: sum("run_id" in call.body for call in stranger.calls) >= 3)
        waits = [call.at for call in stranger.calls if "run_id" in call.body]
    assert waits[2] - waits[0] < LEASE / 2, "sooner than a beat is due"


def test_a_beat_that_gets_through_in_time_saves_the_work(stranger: Front):
    with alive(stranger) as body:
        for _ in range(2):
            stranger.fail(Fault.DROP)
            seen = len(stranger.calls)
            until(lambda seen=seen: len(stranger.calls) >= seen + 2)
            stranger.fail(ALIVE)
            until(lambda seen=seen: len(stranger.calls) >= seen + 4)
        assert time.monotonic() - body.began > LEASE
    assert (body.lease.stop, body.interrupts) == (None, [])


def test_a_start_that_was_answered_late_leaves_no_time(stranger: Front):
    stranger.fail(Fault.DROP)
    with alive(stranger, late=LEASE) as body:
        until(lambda: body.lease.stop, 0.2)
    assert body.lease.stop is Stop.UNREACHABLE


def test_work_that_goes_on_after_its_time_is_interrupted_again(stranger: Front):
    stranger.fail(Fault.DROP)
    with alive(stranger) as body:
        until(lambda: len(body.interrupts) >= 3)


@pytest.mark.parametrize(
    "reply",
    [GONE, beat(404, type="not-found", detail="deleted")],
    ids=["409", "404"],
)
def test_a_row_that_is_gone_stops_the_work_at_once_and_again_when_the_lease_would_end(stranger: Front, reply: Reply):
    stranger.fail(reply)
    with alive(stranger) as body:
        until(lambda: body.interrupts)
        assert body.lease.stop is Stop.LOST
        assert body.interrupts[0] < LEASE * STOP_AT
        until(lambda: len(body.interrupts) >= 2)
    assert body.lease.stop is Stop.LOST
    assert stranger.verbs() == ["heartbeat"], "there is nothing to renew"


def stale(status: str) -> Reply:
    """The lease is no longer this run's, and the row has this status."""
    return beat(409, type="stale-lease", detail="gone", current_status=status)


BUSY = beat(503, type="busy", detail="held by another transaction")


@pytest.mark.parametrize(
    ("reply", "ending", "counted"),
    [
        *((stale(status), False, "lost") for status in ("queued", "claimed", "dispatched", "running", "failed")),
        *((stale(status), False, "refused") for status in ("succeeded", "cancelled")),
        (stale("queued"), True, "refused"),
        (beat(404, type="not-found", detail="deleted"), False, "refused"),
        (beat(403, type="held-by-another", detail="no"), False, "refused"),
        (BUSY, False, "later"),
        (ALIVE, False, "renewed"),
    ],
    ids=[
        *("queued", "claimed", "dispatched", "running", "failed", "succeeded", "cancelled"),
        *("queued by this run", "deleted", "held by another", "busy", "renewed"),
    ],
)
def test_only_a_lease_that_was_lost_is_counted_as_lost(
    stranger: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply, ending: bool, counted: str
):
    file = tmp_path / "reportqueue.prom"
    monkeypatch.setenv(counters.VARIABLE, str(file))
    counters._counted.clear()
    stranger.fail(reply)
    with alive(stranger) as body:
        body.lease.ending = ending
        until(file.exists)
    found = re.findall(r'lease_renewals_total\{answer="(\w+)"\}', file.read_text())
    assert found == [counted]
    counters._counted.clear()


@pytest.mark.parametrize("reply", [Reply(409, "<html>"), Reply(404, "<html>")], ids=["409", "404"])
def test_a_proxys_word_about_the_row_does_not_count(stranger: Front, reply: Reply):
    stranger.fail(reply)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat", 2)
        assert body.lease.stop is None


def test_a_cancel_interrupts_once_and_the_lease_is_kept(stranger: Front):
    stranger.fail(CANCELLED)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat", 6)
    assert (body.lease.stop, len(body.interrupts)) == (Stop.CANCEL, 1), "what cleans up is left in peace"


def test_an_interrupt_is_repeated_in_case_it_was_not_heard(stranger: Front, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "REMIND_SECONDS", 0.05)
    stranger.fail(CANCELLED)
    with alive(stranger) as body:
        until(lambda: len(body.reminders) >= 3)
        assert body.interrupts[0] < body.reminders[0] < body.interrupts[0] + 0.5
    assert len(body.interrupts) == 1


def test_cancelled_work_that_still_cleans_up_is_interrupted_again_when_its_lease_ends(stranger: Front):
    stranger.fail(CANCELLED, times=1)
    with alive(stranger) as body:
        until(lambda: body.interrupts)
        stranger.fail(Fault.DROP)
        until(lambda: len(body.interrupts) >= 2)
    assert body.lease.stop is Stop.CANCEL


def test_a_row_that_is_lost_after_a_cancel_is_lost(stranger: Front):
    stranger.fail(CANCELLED, times=1)
    with alive(stranger) as body:
        until(lambda: body.interrupts)
        stranger.fail(GONE)
        until(lambda: body.lease.stop is Stop.LOST)
        until(lambda: len(body.interrupts) >= 2)


def test_progress_is_sent_once_and_again_if_its_beat_failed(stranger: Front):
    stranger.fail(Fault.DROP, times=1)
    with alive(stranger) as body:
        body.lease.progress = "half"
        stranger.wait_for("heartbeat")
        stranger.fail(ALIVE)
        stranger.wait_for("heartbeat", 3)
        body.lease.progress = "done"
        stranger.wait_for("heartbeat", 5)
    sent = [call.body["rows"][0].get("progress") for call in stranger.calls]
    assert sent[:5] == ["half", "half", None, "done", None]


def test_progress_that_is_refused_is_not_sent_again(stranger: Front):
    stranger.fail(Reply(400, '{"type": "validation", "detail": "progress: no"}'), times=1)
    with alive(stranger) as body:
        body.lease.progress = "half"
        stranger.wait_for("heartbeat")
        stranger.fail(ALIVE)
        stranger.wait_for("heartbeat", 2)
    assert [call.body["rows"][0].get("progress") for call in stranger.calls][:2] == ["half", None]


def test_one_heart_beats_for_many_rows_and_stops_the_one_that_is_no_more_wanted(stranger: Front):
    other = replace(ITEM, queue_id=8)
    answers = [{"queue_id": pk, "code": 200, "answer": {"cancel_requested": pk == 8}} for pk in (7, 8)]
    stranger.fail(Reply(200, json.dumps({"rows": answers})))
    client = ReportQueueClient(stranger.url, "token")
    interrupted: list[HeldLease] = []
    now = time.monotonic()
    with LeaseKeeper(client, 6, run_id="run", interrupt=lambda lease, again: interrupted.append(lease)) as keeper:
        first, second = (keeper.add(Started(item, uuid4()), sent=now - 1.5) for item in (ITEM, other))
        until(lambda: interrupted)
        assert (first.stop, second.stop) == (None, Stop.CANCEL)
    assert set(interrupted) == {second}
    assert [row["queue_id"] for row in stranger.calls[0].body["rows"]] == [7, 8], "in one call"
    client.close()


def test_a_row_that_is_dropped_is_not_renewed_any_more(stranger: Front):
    stranger.fail(ALIVE)
    with alive(stranger) as body:
        stranger.wait_for("heartbeat")
        body.keeper.drop(body.lease)
        seen = len(stranger.calls)
        time.sleep(LEASE)  # an absence is what is looked for
        assert len(stranger.calls) <= seen + 1, "one may have been on its way"
        assert (body.lease.stop, body.interrupts) == (None, [])


def test_rows_that_wait_for_their_turn_are_renewed_with_the_runs_name(stranger: Front):
    stranger.fail(ALIVE)
    with alive(stranger) as body:
        body.keeper.set_waiting({8: 3})
        until(lambda: any("run_id" in call.body for call in stranger.calls))
    (waiting, *_) = [call.body for call in stranger.calls if "run_id" in call.body]
    assert waiting == {"run_id": "run", "lease_seconds": LEASE, "rows": [{"queue_id": 8, "generation": 3}]}


def test_rows_that_wait_are_renewed_although_there_are_fewer_of_them_every_moment(stranger: Front):
    """Quick reports: none of them lives until its own beat."""
    stranger.fail(ALIVE)
    with alive(stranger) as body:
        body.keeper.drop(body.lease)
        end = time.monotonic() + LEASE
        while not any("run_id" in call.body for call in stranger.calls):
            assert time.monotonic() < end, "they lost their lease"
            body.keeper.set_waiting({8: 3})
            time.sleep(0.05)
