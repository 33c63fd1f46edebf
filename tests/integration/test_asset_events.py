"""Dagster is told of a changed schedule after the commit, beside the request; whatever it answers, the save stands."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import transaction

from reportqueue import triggers
from reportqueue.models import ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.triggers import asset_events
from tests.integration.test_admin_permissions import ScheduleFactory

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/report_asset_materialization/report_cron_schedules"
HTTP = "HTTP/1.1 {} Said\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{}"


def answer(status: int, body: str = "{}", header: str = "") -> bytes:
    return HTTP.format(status, len(body), header, body).encode()


TOLD = answer(200)


class Webserver:
    """Stands where Dagster's does; `answer` is what it writes, slowly if it `drips`; None: it never answers."""

    def __init__(self) -> None:
        self.answer: bytes | None = TOLD
        self.drips = False
        self.told: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self._ended = threading.Event()
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                here.paths.append(f"{self.command} {self.path}")
                here.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                here._reply(self.connection)
                self.close_connection = True

            def do_GET(self) -> None:
                here.paths.append(f"{self.command} {self.path}")
                here._reply(self.connection)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _reply(self, link: socket.socket) -> None:
        if self.answer is None:
            self._ended.wait(60)
            return
        with suppress(OSError):
            for byte in self.answer if self.drips else ():
                link.sendall(bytes([byte]))
                if self._ended.wait(0.1):
                    return
            if not self.drips:
                link.sendall(self.answer)

    def release(self) -> None:
        """Whoever waits for an answer gets the end of the connection instead."""
        self._ended.set()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def webserver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Webserver]:
    running = Webserver()
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DAGSTER_URL": running.url}
    monkeypatch.setattr(asset_events, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(asset_events, "PAUSES_SECONDS", (0.01, 0.01))
    yield running
    told()
    running.close()


def told() -> None:
    """Wait until nobody is telling Dagster anything any more."""
    for thread in threading.enumerate():
        if thread.name == "reportqueue-asset-events":
            thread.join(30)
            assert not thread.is_alive(), "its time-outs bound it"


def test_a_change_is_told_once_it_is_committed(webserver: Webserver, make_schedule: ScheduleFactory):
    with transaction.atomic():
        make_schedule()
        make_schedule()
        told()
        assert webserver.told == []
    told()
    assert set(webserver.paths) == {f"POST {PATH}"}
    assert webserver.told[-1]["metadata"]["count"] == 2
    assert len(webserver.told) <= 2, "one call of many changes, and one of those since it began"


@pytest.mark.parametrize(
    "change",
    [
        lambda: ReportSchedule.objects.create(report_id=1, modifier_id=2, cron="@daily"),
        lambda: ReportSchedule.objects.update(priority=5),
        lambda: ReportSchedule.objects.all().delete(),
        lambda: triggers.hand_over(Pattern.ASSET),
    ],
    ids=["saved", "updated", "deleted", "handed over"],
)
def test_nothing_is_told_of_what_is_rolled_back(
    webserver: Webserver, make_schedule: ScheduleFactory, change: Callable[[], Any]
):
    make_schedule()
    told()
    webserver.told.clear()
    with transaction.atomic():
        change()
        transaction.set_rollback(True)
    told()
    assert webserver.told == []


def test_whoever_saves_does_not_wait_and_many_changes_are_one_thread_s(
    webserver: Webserver, make_schedule: ScheduleFactory, monkeypatch: pytest.MonkeyPatch
):
    def at_work() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "reportqueue-asset-events"]

    monkeypatch.setattr(asset_events, "TIMEOUT_SECONDS", 60)
    webserver.answer = None
    make_schedule()
    first = at_work()
    assert len(first) == 1
    for _ in range(5):
        make_schedule()
    assert at_work() == first
    webserver.answer = TOLD
    webserver.release()
    told()
    assert webserver.told[-1]["metadata"]["count"] == 6
    assert len(webserver.told) <= 3


@pytest.mark.parametrize(
    ("wrong", "drips", "said"),
    [
        (answer(404), False, "404 Said"),
        (answer(403, "<html>"), False, "403 Said"),
        (answer(500, "no"), False, "500 Said"),
        (answer(302, "", "Location: /elsewhere\r\n"), False, "302 Said; DAGSTER_URL has to be"),
        (answer(307, "", f"Location: {PATH}\r\n"), False, "307 Said"),
        (answer(200, "<html>log in</html>"), False, "not answered as Dagster"),
        (answer(200, "[]"), False, "not answered as Dagster"),
        (answer(200, "{" + " " * 70_000 + "}"), False, "not answered as Dagster"),
        (b"220 mail.example.com ESMTP\r\n", False, "220 mail.example.com"),
        (b"", False, "without response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", False, "report_cron_schedules"),
        (answer(200, "{}" + " " * 900), True, "report_cron_schedules"),
        (None, False, "timed out|without response|closed"),
    ],
    ids=[
        *("404", "403", "500", "302", "307", "a page", "a list", "too long", "no HTTP", "nothing", "cut off"),
        *("drips", "hangs"),
    ],
)
def test_whatever_is_answered_the_save_stands_it_is_said_and_the_next_change_is_told(
    webserver: Webserver,
    make_schedule: ScheduleFactory,
    caplog: pytest.LogCaptureFixture,
    wrong: bytes | None,
    drips: bool,
    said: str,
):
    webserver.answer, webserver.drips = wrong, drips
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "reportqueue"):
        schedule = make_schedule()
        told()
    assert time.monotonic() - begun < 15, "three tries, each with a time-out of half a second"
    assert ReportSchedule.objects.filter(pk=schedule.pk).exists()
    assert webserver.paths == [f"POST {PATH}"] * 3, "tried three times; a redirect is not followed"
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "reportqueue"]
    assert "Dagster was not told that schedules have changed" in warning
    assert any(part in warning for part in said.split("|")), warning
    webserver.answer, webserver.drips = TOLD, False
    schedule.priority = 7
    schedule.save()
    told()
    assert len(webserver.paths) == 4


def test_a_webserver_that_is_down_is_said_and_the_next_change_is_told(
    webserver: Webserver, make_schedule: ScheduleFactory, caplog: pytest.LogCaptureFixture, settings: Any
):
    up = settings.REPORTQUEUE
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        settings.REPORTQUEUE = {**up, "DAGSTER_URL": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        schedule = make_schedule()
        told()
    assert "Connection refused" in caplog.text
    settings.REPORTQUEUE = up
    schedule.save()
    told()
    assert len(webserver.told) == 1


def test_a_failed_try_is_made_up_for_by_the_next(
    webserver: Webserver, make_schedule: ScheduleFactory, caplog: pytest.LogCaptureFixture
):
    webserver.answer = answer(503)
    reply = webserver._reply

    def heal(link: socket.socket) -> None:
        reply(link)
        webserver.answer = TOLD

    webserver._reply = heal  # type: ignore[method-assign]
    make_schedule()
    told()
    assert len(webserver.told) == 2
    assert "was not told" not in caplog.text


def test_a_process_that_has_no_thread_left_saves_and_says_so(
    webserver: Webserver,
    make_schedule: ScheduleFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        schedule = make_schedule()
    assert "can't start new thread" in caplog.text
    schedule.save()
    told()
    assert len(webserver.told) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_not_told(db: None, settings: Any, url: str):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DAGSTER_URL": url}
    with pytest.raises(asset_events.NotTold):
        asset_events.post()
