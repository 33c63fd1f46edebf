"""Live pages of the admin: the stream that notifies them, the question whether something has changed, their bounds."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue import bulk, queue
from reportqueue.conf import Conf
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from reportqueue.wakeup import pages
from reportqueue.wakeup.budget import Budget
from reportqueue.wakeup.claims import Listener, Waiter
from tests.conftest import RowFactory, build_row
from tests.dagster_reportqueue.waiting import until
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, ScheduleFactory, staff, text_of
from tests.integration.webapp import Web, running

EVENTS, CHANGED = f"{QUEUE}events/", f"{QUEUE}changed/"
THREADS = {"wsgi.multithread": True}
"""The web server has several threads; Django's test client says that it has one."""


@contextmanager
def stream(web: Web, session: str) -> Iterator[http.client.HTTPResponse]:
    """The answer of a request for a stream, as a browser with this session sends it."""
    address = urlsplit(web.url)
    connected = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    connected.request("GET", EVENTS, headers={"Cookie": f"sessionid={session}"})
    try:
        yield connected.getresponse()
    finally:
        connected.close()


def session_of(*codenames: str) -> str:
    """The session of a person with these permissions."""
    return str(staff(*codenames).cookies["sessionid"].value)


def events(answer: http.client.HTTPResponse) -> Iterator[str]:
    """The names of the events, as they arrive."""
    for line in answer:
        if line.startswith(b"event: "):
            yield line.decode().removeprefix("event: ").strip()


def test_a_stream_tells_of_a_row_that_another_connection_enqueues(transactional_db: None):
    with running() as web, stream(web, session_of("view_reportqueue")) as answer:
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
        assert answer.getheader("X-Accel-Buffering") == "no"
        told = events(answer)
        assert next(told) == "changed"  # the process has begun to listen
        time.sleep(2)
        began = time.monotonic()
        queue.enqueue(report_id=1, modifier_id=1)
        assert next(told) == "changed"
        assert time.monotonic() - began < 5


def test_one_stream_too_many_is_refused_and_a_stop_ends_the_others_at_once(transactional_db: None):
    session = session_of("view_reportqueue")
    with running() as web, ExitStack() as opened:
        streams = [opened.enter_context(stream(web, session)) for _ in range(Conf().max_streams)]
        assert [one.status for one in streams] == [200] * 4
        with stream(web, session) as refused:
            assert (refused.status, refused.getheader("Retry-After")) == (503, "60")
        assert [one.readline() for one in streams] == [b"retry: 3000\n"] * 4
        began = time.monotonic()
        web.process.terminate()
        for one in streams:
            one.read()  # to the proper end of a chunked answer
        web.process.wait(timeout=20)
    assert time.monotonic() - began < 10, "it has waited for the streams"


def test_one_connection_of_a_process_listens_for_all_streams(transactional_db: None):
    session = session_of("view_reportqueue")
    with running() as web, stream(web, session) as one, stream(web, session) as two:
        assert next(events(one)) == "changed"  # the process has begun to listen
        assert two.readline() == b"retry: 3000\n"
        queue.enqueue(report_id=1, modifier_id=1)
        assert next(events(one)) == next(events(two)) == "changed"
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reportqueue-listener' "
                "AND datname = current_database()"
            )
            assert cursor.fetchone() == (1,)


def test_a_stream_debounces_sends_heartbeats_and_ends(transactional_db: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "STREAM_SECONDS", 3.0)
    monkeypatch.setattr(pages, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(pages, "EVENT_SECONDS", 0.5)
    opened = pages.Stream()
    began, sent = time.monotonic(), []
    for chunk in opened:
        sent.append(chunk)
        if time.monotonic() - began < 1:
            pages.listener._notify()
    opened.close()
    assert 2.9 < time.monotonic() - began < 10
    assert sent[0] == b"retry: 3000\n\n"
    assert 1 <= sent.count(b"event: changed\ndata: changed\n\n") <= 5  # and not one for each of many notifications
    assert b":\n\n" in sent


def test_a_place_is_free_again_however_a_stream_ends(settings: Any, transactional_db: None):
    settings.REPORTQUEUE = {"MAX_STREAMS": 1}
    client = staff("view_reportqueue")
    for _ in range(2):
        answer = client.get(EVENTS, **THREADS)
        assert answer.status_code == 200
        assert client.get(EVENTS, **THREADS).status_code == 503
        answer.close()  # before it was read
    unread = pages.Stream()
    with pytest.raises(pages.NoRoom):
        pages.Stream()
    del unread
    pages.Stream().close()
    until(lambda: pages.listener._thread is None, what="the end of the listener")


def test_a_place_is_not_taken_if_nothing_can_listen(monkeypatch: pytest.MonkeyPatch, transactional_db: None):
    def fails(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    listener = Listener()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError):
            listener.admit(Waiter.STREAM, 1)
    assert listener.admit(Waiter.STREAM, 1)
    listener.leave(Waiter.STREAM)
    until(lambda: listener._thread is None, what="the end of the listener")


@pytest.mark.parametrize("address", [EVENTS, CHANGED])
def test_these_pages_are_for_people_who_see_the_queue_or_schedules(
    address: str, db: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pages, "Stream", refusing)
    assert Client().get(address).status_code == 302
    assert staff().get(address).status_code == 403
    assert staff("add_reportqueue", "view_apitoken").get(address).status_code == 403
    expected = 503 if address == EVENTS else 200
    for permission in ("view_reportqueue", "view_reportschedule"):
        assert staff(permission).get(address).status_code == expected
    assert staff("view_reportqueue").post(address).status_code == 405


def refusing() -> None:
    """Stands in for a stream that finds no room."""
    raise pages.NoRoom


def test_a_server_with_one_thread_has_no_streams(db: None):
    answer = staff("view_reportqueue").get(EVENTS)
    assert (answer.status_code, answer["Retry-After"]) == (503, "60")


def changed(client: Client, page: Any) -> bool:
    """Whether something has changed since a page was made."""
    marker = page.context["live"]["marker"]
    return bool(client.get(CHANGED, {"since": marker}).json()["changed"])


def test_the_marker_notices_a_new_row_a_start_and_an_end_at_once(transactional_db: None):
    client = staff("view_reportqueue")
    page = client.get(QUEUE)
    assert not changed(client, page)
    row = queue.enqueue(report_id=1, modifier_id=1)
    assert changed(client, page)
    claimed = queue.claim("sensor", limit=1)
    page = client.get(QUEUE)
    started = queue.start(claimed.rows[0].pk, generation=1, run_id="run")
    assert changed(client, page)
    page = client.get(QUEUE)
    queue.complete(row.pk, lease_token=started.lease_token)
    assert changed(client, page)


def test_the_marker_notices_every_other_write_when_postgresql_has_counted_it(transactional_db: None):
    row = build_row()
    client = staff("view_reportqueue")
    flush()
    page = client.get(QUEUE)
    ReportQueue.objects.filter(pk=row.pk).update(priority=7)
    flush()
    until(lambda: changed(client, page), what="the count of the write")


def test_the_marker_notices_an_order_to_a_bulk_action_and_a_muted_failure(transactional_db: None):
    failed = build_row(status=Status.FAILED, fingerprint="0" * 16, error="ValueError")
    action = bulk.start("requeue", {"report_id": 7})
    client = staff("view_reportqueue")
    for change in (lambda: bulk.stop(action.pk), lambda: queue.mute(failed.fingerprint)):
        flush()
        page = client.get(QUEUE)
        change()
        flush()
        until(lambda seen=page: changed(client, seen), what="the count of the write")


def flush() -> None:
    """Have PostgreSQL count this connection's writes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")


def test_the_question_is_one_statement_that_reads_ends_of_indexes(make_row: RowFactory):
    make_row()
    client = staff("view_reportqueue")
    with CaptureQueriesContext(connection) as queries:
        client.get(CHANGED)
    (own,) = [query["sql"] for query in queries.captured_queries if "pg_stat_get" in query["sql"]]
    assert len(queries.captured_queries) <= 5  # with the session, the user and the permissions
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reportqueue_reportqueue, reportqueue_reportattempt")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {own}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert plan.count("Limit") == 3
    assert "Seq Scan" not in plan


def refresh(client: Client, address: str) -> Any:
    """A page as the script fetches it."""
    return client.get(address, headers={"X-Requested-With": "reportqueue-live"})


@pytest.fixture
def fresh_budget(monkeypatch: pytest.MonkeyPatch) -> Budget:
    """Nothing has been spent on live pages."""
    made = Budget()
    monkeypatch.setattr("reportqueue.wakeup.budget.budget", made)
    monkeypatch.setattr("reportqueue.admin.live.budget", made)
    return made


def test_a_page_waits_while_live_pages_have_used_up_their_share(
    settings: Any, fresh_budget: Budget, make_row: RowFactory
):
    settings.REPORTQUEUE = {"LIVE_SHARE": 0.1}
    make_row()
    viewer = staff("view_reportqueue")
    assert viewer.get(CHANGED, {"since": "before"}).json() == {"changed": True, "wait": 0}
    fresh_budget.spend(1.5)  # the time of 15 s, of which a page may be ahead by 10
    told = viewer.get(CHANGED, {"since": "before"}).json()
    assert told["changed"]
    assert 4 < told["wait"] < 12
    fresh_budget.spend(1e6)
    assert viewer.get(CHANGED, {"since": "before"}).json()["wait"] == 120, "it asks again at some time"


def test_the_time_of_refreshes_and_questions_is_counted_and_no_other(
    settings: Any, fresh_budget: Budget, make_row: RowFactory, monkeypatch: pytest.MonkeyPatch
):
    settings.REPORTQUEUE = {}
    spent: list[float] = []
    monkeypatch.setattr(fresh_budget, "spend", spent.append)
    row = make_row()
    viewer = staff("view_reportqueue")
    viewer.get(QUEUE)
    assert spent == []
    for address in (QUEUE, f"{QUEUE}{row.pk}/change/", "/admin/reportqueue/"):
        assert refresh(viewer, address).status_code == 200
        (seconds,) = spent
        assert 0 < seconds < 60
        spent.clear()
    viewer.get(CHANGED)
    assert len(spent) == 1


def test_what_was_spent_is_forgotten_as_time_passes(
    settings: Any, fresh_budget: Budget, monkeypatch: pytest.MonkeyPatch
):
    settings.REPORTQUEUE = {"LIVE_SHARE": 0.5}
    now = [1000.0]
    monkeypatch.setattr("reportqueue.wakeup.budget.time", SimpleNamespace(monotonic=lambda: now[0]))
    fresh_budget.spend(5)
    assert fresh_budget.wait() == 0, "pages may be ahead by the time of 10 s"
    fresh_budget.spend(1)
    assert 2 <= fresh_budget.wait() <= 4
    now[0] += 2
    assert fresh_budget.wait() == 0


def test_a_page_that_was_notified_need_not_be_told_that_it_is_behind(make_row: RowFactory):
    viewer = staff("view_reportqueue")
    assert not viewer.get(CHANGED, {"since": pages.marker()}).json()["changed"]
    assert viewer.get(CHANGED, {"since": pages.marker(), "behind": ""}).json()["changed"]


def test_pages_are_live_while_they_can_change(make_row: RowFactory, make_schedule: ScheduleFactory):
    running_row, ended, schedule = make_row(status=Status.RUNNING), make_row(status=Status.FAILED), make_schedule()
    client = staff("view_reportqueue", "view_reportschedule", "view_report")
    for address in (QUEUE, SCHEDULES, f"{QUEUE}{running_row.pk}/change/"):
        page = text_of(client.get(address))
        assert 'id="rq-live"' in page
        assert "data-live>" in page
        assert 'src="/static/reportqueue/live.js"' in page
    for address in (f"{QUEUE}{ended.pk}/change/", f"{SCHEDULES}{schedule.pk}/change/", "/admin/reportqueue/report/"):
        page = text_of(client.get(address))
        assert 'id="rq-live"' not in page
        assert "data-live>" not in page


def test_a_refresh_leaves_the_messages_of_the_next_page(admin_client: Client, make_row: RowFactory):
    row = make_row()
    admin_client.post(f"{QUEUE}{row.pk}/cancel/")
    refresh = admin_client.get(QUEUE, headers={"X-Requested-With": "reportqueue-live"})
    assert "1 report cancelled." not in text_of(refresh)
    assert "1 report cancelled." in text_of(admin_client.get(QUEUE))


def test_standing_warnings_are_apart_from_messages(admin_client: Client, make_row: RowFactory):
    queue.pause(by="ada")
    row = make_row()
    admin_client.post(f"{QUEUE}{row.pk}/cancel/")
    once, standing = text_of(admin_client.get(QUEUE)).split('<div id="rq-standing"')
    assert "1 report cancelled." in once
    assert "The queue is paused" not in once
    assert "The queue is paused" in standing


def test_a_person_who_sees_schedules_alone_has_a_live_list(make_schedule: ScheduleFactory):
    make_schedule()
    client = staff("view_reportschedule")
    page = client.get(SCHEDULES)
    assert not changed(client, page)
    assert Permission.objects.filter(codename="view_reportschedule", user=User.objects.get()).exists()


@pytest.mark.django_db
def test_the_button_of_a_live_page_speaks_of_its_updates_and_not_of_the_queue():
    build_row(status=Status.FAILED)
    address = f"{QUEUE}bulk/{bulk.start('requeue', {'status': ['failed']}).pk}/"
    page = text_of(staff("view_reportqueue", "requeue_reportqueue").get(address))
    (button,) = re.findall(r'<div id="rq-live"[^>]*>', page)
    assert 'data-pause-text="Stop updating" data-resume-text="Update again"' in button
    assert "Pause" not in button
    assert "Resume" not in button
