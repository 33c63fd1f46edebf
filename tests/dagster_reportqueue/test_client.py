"""The protocol over a real connection: each verb against the web app, and every way in which an answer can be wrong."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from dagster_reportqueue.client import ApiRefused, ApiUnreachable, Conflict, ReportQueueClient, Started
from dagster_reportqueue.client.plan import Plan
from reportqueue import queue, tokens
from reportqueue.models import ApiToken, ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.conftest import ClientFactory
from tests.dagster_reportqueue.front import Fault, Front, Reply


@pytest.fixture
def lost(stranger: Front) -> Iterator[ReportQueueClient]:
    """A client of something that is not the web app."""
    client = ReportQueueClient(stranger.url, "token", retries=0)
    yield client
    client.close()


def started(client: ReportQueueClient, **fields: Any) -> Any:
    row = build_row(**fields)
    (item,) = client.claim("sensor").items
    assert item.queue_id == row.pk
    return client.start(row.pk, generation=item.generation, run_id="run", lease_seconds=30)


def problem(status: int, **more: Any) -> Reply:
    return Reply(status, json.dumps(more), kind="application/problem+json")


def test_a_claimed_row_arrives_whole(client: ReportQueueClient):
    row = build_row(report_id=7, modifier_id=2**63 - 1, priority=-3, max_attempts=5, params={"year": 2026, "ä": [None]})
    claim = client.claim("sensor")
    row.refresh_from_db()
    (item,) = claim.items
    assert claim.claim_id == row.claim_id
    assert (item.queue_id, item.report_id, item.modifier_id) == (row.pk, 7, 2**63 - 1)
    assert (item.generation, item.attempt, item.max_attempts, item.priority) == (1, 0, 5, -3)
    assert (item.run_key, item.params) == (f"{row.pk}:1", {"year": 2026, "ä": [None]})
    assert item.trigger_time == row.trigger_time
    assert item.trigger_time.utcoffset() is not None
    assert "2026" not in repr(item).replace(str(item.trigger_time.year), ""), "params may be confidential"


def test_nothing_due_is_an_empty_claim(client: ReportQueueClient):
    claim = client.claim("sensor")
    assert (claim.claim_id, claim.items) == (None, [])


def test_a_claim_waits_on_the_server(client: ReportQueueClient, front: Front):
    began = time.monotonic()
    assert client.claim("sensor", wait_seconds=0.3).items == []
    assert time.monotonic() - began >= 0.3
    assert front.verbs() == ["claim"]


def test_a_claim_is_acknowledged_by_the_next_one(client: ReportQueueClient):
    build_row()
    first = client.claim("sensor", lease_seconds=50)
    again = client.claim("sensor", limit=3, max_in_flight=9)
    assert (again.claim_id, again.items) == (first.claim_id, first.items)
    assert (first.in_flight, again.in_flight) == (None, 1)
    assert client.claim("sensor", ack=first.claim_id, dispatch_lease_seconds=500).items == []
    row = ReportQueue.objects.get()
    assert row.status == Status.DISPATCHED
    assert (row.lease_expires_at - timezone.now()).total_seconds() > 400


def test_a_run_starts_beats_and_completes(client: ReportQueueClient):
    run = started(client, params={"year": 2026})
    row = ReportQueue.objects.get()
    assert (row.status, row.run_id, row.lease_token) == (Status.RUNNING, "run", run.lease_token)
    assert str(run.lease_token) not in repr(run)
    beat = client.heartbeat(row.pk, lease_token=run.lease_token, lease_seconds=300, progress="half")
    assert beat is False
    assert row.attempts.get().progress == "half"
    client.complete(row.pk, lease_token=run.lease_token, result={"pages": 3})
    client.complete(row.pk, lease_token=run.lease_token, result={"pages": 3})
    row.refresh_from_db()
    assert (row.status, row.result) == (Status.SUCCEEDED, {"pages": 3})


def test_a_heartbeat_says_that_the_run_is_to_stop_and_the_run_cancels(client: ReportQueueClient):
    run = started(client)
    ReportQueue.objects.update(cancel_requested=True)
    assert client.heartbeat(run.item.queue_id, lease_token=run.lease_token) is True
    client.cancel(run.item.queue_id, lease_token=run.lease_token, reason="not wanted")
    row = ReportQueue.objects.get()
    assert (row.status, row.error) == (Status.CANCELLED, "not wanted")


def test_a_failed_attempt_is_told_with_what_the_queue_does_next(client: ReportQueueClient):
    run = started(client)
    status = client.fail(run.item.queue_id, lease_token=run.lease_token, error="boom", retry_after_seconds=900)
    assert status == "queued"
    row = ReportQueue.objects.get()
    assert row.error == "boom"
    assert (row.available_at - timezone.now()).total_seconds() > 800


def test_a_failure_for_good_is_final(client: ReportQueueClient):
    run = started(client)
    assert client.fail(run.item.queue_id, lease_token=run.lease_token, error="boom", retryable=False) == "failed"


def test_a_launch_that_failed_uses_up_no_attempt(client: ReportQueueClient):
    build_row()
    (item,) = client.claim("sensor").items
    assert client.fail_launch(item.queue_id, generation=1, run_id="run", error="no such image") == "queued"
    row = ReportQueue.objects.get()
    assert (row.attempt, row.launch_failures) == (0, 1)
    assert "no such image" in row.error


def test_a_released_row_is_offered_again(client: ReportQueueClient):
    run = started(client)
    client.release(run.item.queue_id, lease_token=run.lease_token, delay_seconds=60, reason="shutting down")
    row = ReportQueue.objects.get()
    assert (row.status, row.attempt, row.error) == (Status.QUEUED, 0, "shutting down")
    assert row.available_at > timezone.now()


def test_text_that_the_queue_cannot_store_is_told_without_what_it_cannot(client: ReportQueueClient):
    run = started(client)
    bad = "a\x00b\ud800c"
    client.heartbeat(run.item.queue_id, lease_token=run.lease_token, progress=bad)
    client.fail(run.item.queue_id, lease_token=run.lease_token, error=bad)
    assert ReportQueue.objects.get().error == "a\ufffdb?c"


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED, Status.CANCELLED])
def test_a_row_that_has_another_run_or_has_ended_is_a_conflict(client: ReportQueueClient, status: Status):
    row = build_row(status=status, generation=1)
    with pytest.raises(Conflict) as conflict:
        client.start(row.pk, generation=1, run_id="other")
    assert (conflict.value.kind, conflict.value.current_status, conflict.value.status) == ("invalid-state", status, 409)
    assert len(str(conflict.value).splitlines()) == 1


@pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail", "release", "cancel"])
def test_a_stale_token_is_a_conflict(client: ReportQueueClient, verb: str):
    row = build_row(status=Status.RUNNING)
    more = {"error": "x"} if verb == "fail" else {}
    with pytest.raises(Conflict) as conflict:
        getattr(client, verb)(row.pk, lease_token=uuid4(), **more)
    assert (conflict.value.kind, conflict.value.current_status) == ("stale-lease", Status.RUNNING)


def test_an_unknown_row_is_refused(client: ReportQueueClient):
    with pytest.raises(ApiRefused, match=r"/api/report-queue/7/start/ answered 404: .*no report 7") as refusal:
        client.start(7, generation=1, run_id="run")
    assert (refusal.value.status, refusal.value.kind) == (404, "not-found")


def test_a_wrong_token_is_refused_with_a_hint(make_client: ClientFactory):
    with pytest.raises(ApiRefused, match=r"answered 401: .*check REPORTQUEUE_TOKEN$") as refusal:
        make_client(token="0123456789abcdef").claim("sensor")
    assert refusal.value.status == 401
    assert "0123456789abcdef" not in str(refusal.value)


def test_an_expired_token_is_refused_in_one_sentence(make_client: ClientFactory):
    issued = tokens.issue(User.objects.create_user("late"), name="test")
    ApiToken.objects.update(created_at=minutes_ago(2), expires_at=minutes_ago(1))
    said = rf"answered 401: The token rq_{issued.token.identifier} has expired; check REPORTQUEUE_TOKEN$"
    with pytest.raises(ApiRefused, match=said):
        make_client(token=issued.key).claim("sensor")


@pytest.mark.parametrize("status", [401, 403])
def test_the_hint_follows_the_type_of_the_problem(lost: ReportQueueClient, stranger: Front, status: int):
    stranger.fail(problem(status, type="not-authenticated", detail="Who is it?"))
    with pytest.raises(ApiRefused, match=rf"answered {status}: Who is it\?; check REPORTQUEUE_TOKEN$"):
        lost.claim("sensor")
    stranger.fail(Reply(status, "<h1>Log in</h1>", "text/html"))
    with pytest.raises(ApiRefused, match=r"; the API did not answer this: check REPORTQUEUE_URL and the proxy"):
        lost.claim("sensor")
    stranger.fail(problem(status, type="another", detail="No."))
    with pytest.raises(ApiRefused, match=rf"answered {status}: No\.$"):
        lost.claim("sensor")


def test_a_host_that_the_web_app_does_not_know_is_asked_about(lost: ReportQueueClient, stranger: Front):
    stranger.fail(Reply(400, "<h1>Bad Request (400)</h1>", "text/html"))  # Django's answer
    with pytest.raises(ApiRefused, match=r"answered 400: .*host of REPORTQUEUE_URL in the web app's ALLOWED_HOSTS\?$"):
        lost.claim("sensor")


@pytest.mark.parametrize(
    ("body", "said"), [("<html>", "is not JSON"), ("[]", "without a valid Reportqueue-Time header")]
)
def test_what_the_api_would_not_answer_points_to_the_address(
    lost: ReportQueueClient, stranger: Front, body: str, said: str
):
    stranger.fail(Reply(200, body, "text/html"))
    with pytest.raises(ApiUnreachable, match=rf"{said}.* is REPORTQUEUE_URL the address of the queue's API.*\?$"):
        _ = lost.answer("GET", "reports/").time


def test_a_row_of_another_user_is_refused_with_its_own_reason(client: ReportQueueClient):
    row = build_row(status=Status.DISPATCHED, api_user="another")
    with pytest.raises(ApiRefused, match=r"answered 403: .*another API user.*lease ends\.$") as refusal:
        client.start(row.pk, generation=1, run_id="run")
    assert (refusal.value.held_by_another, refusal.value.moved_on) == (True, False)
    answer = client.start_many({row.pk: 1}, run_id="run")[row.pk]
    assert isinstance(answer, ApiRefused)
    assert answer.held_by_another


def test_a_missing_permission_is_named(make_client: ClientFactory):
    token = tokens.issue(User.objects.create_user("nobody"), name="test").key
    with pytest.raises(
        ApiRefused,
        match=r"consume_reportqueue, .*not have; REPORTQUEUE_TOKEN must be of a user that manage",
    ) as refusal:
        make_client(token=token).claim("sensor")
    assert refusal.value.status == 403


def test_what_a_bound_forbids_is_refused_naming_the_field(client: ReportQueueClient):
    with pytest.raises(ApiRefused, match=r"answered 400: limit: ") as refusal:
        client.claim("sensor", limit=1_001)
    assert (refusal.value.status, refusal.value.kind) == (400, "validation")


@pytest.mark.parametrize(
    "result",
    [{"when": timezone.now()}, {"share": float("nan")}, {"bytes": b"x"}, {("a", "b"): 1}],
    ids=["datetime", "nan", "bytes", "key"],
)
def test_a_result_that_is_not_json_is_refused_without_asking(lost: ReportQueueClient, stranger: Front, result: Any):
    with pytest.raises(ApiRefused, match="is not JSON") as refusal:
        lost.complete(1, lease_token=uuid4(), result=result)
    assert (refusal.value.status, stranger.calls) == (400, [])


def test_a_result_beyond_reason_is_refused_without_sending_it(lost: ReportQueueClient, stranger: Front):
    with pytest.raises(ApiRefused, match="1,048,576") as refusal:
        lost.complete(1, lease_token=uuid4(), result={"text": "x" * 2**20})
    assert (refusal.value.status, stranger.calls) == (413, [])


def test_nobody_listening_is_one_readable_line(make_client: ClientFactory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ApiUnreachable) as error:
            make_client(url, retries=1).claim("sensor")
    assert str(error.value) == (
        f"{url}/api/report-queue/claim/ does not answer ([Errno 111] Connection refused); is the web app running?"
    )


def test_a_name_that_nobody_knows_is_one_readable_line(make_client: ClientFactory):
    with pytest.raises(
        ApiUnreachable, match=r"does not answer \(Failed to resolve 'queue.invalid'.*\); is the"
    ) as error:
        make_client("http://queue.invalid", retries=0).claim("sensor")
    assert len(str(error.value).splitlines()) == 1


def test_a_dropped_connection_says_so(make_client: ClientFactory, front: Front):
    front.fail(Fault.DROP)
    with pytest.raises(ApiUnreachable, match=r"\(Remote end closed connection without response\)"):
        make_client(retries=0).claim("sensor")


def test_no_answer_in_time_says_so(make_client: ClientFactory, front: Front):
    front.fail(Fault.HANG)
    with pytest.raises(ApiUnreachable, match=r"does not answer \(no answer in time\)"):
        make_client(retries=0, read_timeout=0.2).heartbeat(1, lease_token=uuid4())
    front.calls.clear()
    with pytest.raises(ApiUnreachable, match=r"does not answer \(no answer in time\)"):
        make_client(retries=1, read_timeout=0.2).heartbeat(1, lease_token=uuid4())
    assert len(front.calls) == 2


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_its_web_app_is_asked_again(client: ReportQueueClient, front: Front, status: int):
    build_row()
    front.fail(Reply(status, "<h1>Bad Gateway</h1>", "text/html"), times=2)
    assert len(client.claim("sensor").items) == 1
    assert front.verbs() == ["claim"] * 3


def test_a_gateway_that_stays_without_is_unreachable(make_client: ClientFactory, front: Front):
    front.fail(Reply(502, "<h1>Bad Gateway</h1>", "text/html"))
    with pytest.raises(ApiUnreachable, match=r"answered 502: Bad Gateway$"):
        make_client(retries=1).claim("sensor")
    assert len(front.calls) == 2


def test_a_lost_answer_is_asked_for_again_and_is_the_same(client: ReportQueueClient, front: Front):
    build_row()
    front.fail(Fault.LOSE, on="start", times=1)
    (item,) = client.claim("sensor").items
    run = client.start(item.queue_id, generation=1, run_id="run")
    row = ReportQueue.objects.get()
    assert (run.lease_token, row.attempt, row.attempts.count()) == (row.lease_token, 1, 1)
    front.fail(Fault.LOSE, on="complete", times=1)
    client.complete(item.queue_id, lease_token=run.lease_token)
    assert front.verbs() == ["claim", "start", "start", "complete", "complete"]
    assert row.attempts.count() == 1


def test_a_proxy_cannot_make_the_client_wait(make_client: ClientFactory, front: Front):
    front.fail(Reply(503, headers={"Retry-After": "3600"}), times=1)
    assert make_client().claim("sensor").items == []
    front.fail(Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ApiUnreachable, match="answered 429"):
        make_client().claim("sensor")


@pytest.mark.parametrize("location", ["https://elsewhere.example/", "/login/"])
def test_redirects_are_not_followed(lost: ReportQueueClient, stranger: Front, location: str):
    stranger.fail(Reply(302, headers={"Location": location}))
    with pytest.raises(ApiUnreachable, match=r"answered 302: .*redirects are not followed, check REPORTQUEUE_URL"):
        lost.claim("sensor")
    assert len(stranger.calls) == 1


def test_nothing_has_changed_only_for_who_has_something(lost: ReportQueueClient, stranger: Front):
    stranger.fail(Reply(304, headers={"Reportqueue-Time": "2026-11-30T01:02:03.5Z"}))
    with pytest.raises(ApiUnreachable, match="answered 304"):
        lost.plan("cron")
    known = Plan("abc", (), ())
    reading = lost.plan("cron", known=known)
    assert reading.plan is known
    assert reading.now == datetime(2026, 11, 30, 1, 2, 3, 500_000, tzinfo=UTC)
    assert stranger.calls[-1].headers["If-None-Match"] == 'W/"abc"'


GARBAGE = [
    "<html>Please log in</html>",
    "",
    "{",
    "null",
    "[]",
    "7",
    '"x"',
    "{}",
    '{"status": "ok"}',
    "[" * 100_000,
    b"\xff",
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize(
    "verb", ["claim", "start", "heartbeat", "complete", "fail", "fail_launch", "release", "cancel"]
)
def test_an_answer_that_is_not_the_apis_is_never_taken_for_one(
    lost: ReportQueueClient, stranger: Front, verb: str, body: str
):
    stranger.fail(Reply(200, body, "text/html"))
    token = {"lease_token": uuid4()}
    calls = {
        "claim": lambda: lost.claim("sensor"),
        "start": lambda: lost.start(1, generation=1, run_id="run"),
        "fail": lambda: lost.fail(1, error="x", **token),
        "fail_launch": lambda: lost.fail_launch(1, generation=1, run_id="run", error="x"),
    }
    with pytest.raises(ApiUnreachable, match=r"^\S.* answered something that is not .*\?$") as error:
        calls.get(verb, lambda: getattr(lost, verb)(1, **token))()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change", [{"claim_id": 7}, {"queue": {}}, {"queue": [{}]}, {"queue": [None]}, {"queue": None}]
)
def test_a_claim_of_another_shape_is_refused_as_a_whole(
    lost: ReportQueueClient, stranger: Front, change: dict[str, Any]
):
    stranger.fail(Reply(200, json.dumps({"claim_id": str(uuid4()), "queue": []} | change)))
    if change == {"queue": {}}:
        assert lost.claim("sensor").items == []  # an empty list by another name
        return
    with pytest.raises(ApiUnreachable, match="something that is not a claim; do the versions match"):
        lost.claim("sensor")


def test_the_answer_of_another_row_is_not_this_ones(lost: ReportQueueClient, stranger: Front):
    stranger.fail(Reply(200, json.dumps({"queue_id": 2, "status": "succeeded"})))
    with pytest.raises(ApiUnreachable, match="not this row"):
        lost.complete(1, lease_token=uuid4())


@pytest.mark.parametrize("body", [*GARBAGE, '{"detail": {"a": ["b\\nc"]}}', '{"detail": "a\\nb", "current_status": 7}'])
@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, ApiRefused),
        (404, ApiRefused),
        (413, ApiRefused),
        (409, ApiUnreachable),
        (408, ApiUnreachable),
        (500, ApiUnreachable),
    ],
)
def test_an_error_that_is_not_the_apis_is_one_line_with_its_status(
    lost: ReportQueueClient, stranger: Front, status: int, family: type[Exception], body: str
):
    stranger.fail(Reply(status, body, "text/html"))
    with pytest.raises(family, match=f"answered {status}: ") as error:
        lost.start(1, generation=1, run_id="run")
    assert len(str(error.value).splitlines()) == 1
    assert not isinstance(error.value, Conflict), "a proxy's 409 would end a run"


def test_a_404_from_elsewhere_points_to_the_address(lost: ReportQueueClient, stranger: Front):
    stranger.fail(Reply(404, "<h1>Not Found</h1>", "text/html"))
    with pytest.raises(ApiRefused, match=r"check REPORTQUEUE_URL$"):
        lost.claim("sensor")


def test_a_conflicts_status_is_a_text_or_nothing(lost: ReportQueueClient, stranger: Front):
    stranger.fail(problem(409, type="stale-lease", detail="gone\nfor good", current_status=["x"]))
    with pytest.raises(Conflict, match=r"^gone for good$") as conflict:
        lost.heartbeat(1, lease_token=uuid4())
    assert conflict.value.current_status is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://:8000",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://host/?a=b",
        "http://host/#a",
        "http://user:s3cret@host",
        "http://host/a b",
    ],
)
def test_a_url_that_cannot_be_one_is_refused_without_showing_it(url: str):
    with pytest.raises(ValueError, match="REPORTQUEUE_URL must be the web app's address") as error:
        ReportQueueClient(url, "token")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("end", ["", "/", "/api", "/api/", "/api/\n"])
def test_the_address_may_be_written_in_several_ways(make_client: ClientFactory, front: Front, end: str):
    assert make_client(front.url + end).claim("sensor").items == []


@pytest.mark.parametrize("token", ["", " ", "two words", "line\nbreak", "sch\u00f6n", "nul\x00"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(token: str):
    with pytest.raises(ValueError, match=r"^REPORTQUEUE_TOKEN ") as error:
        ReportQueueClient("http://host", token)
    assert len(token) < 2 or token not in str(error.value)


def test_a_tokens_file_may_end_in_a_newline(make_client: ClientFactory, token: str):
    assert make_client(token=f"{token}\n").claim("sensor").items == []


def test_the_token_is_in_no_text(make_client: ClientFactory, front: Front, token: str):
    client = make_client(retries=0, read_timeout=0.2)
    texts = [repr(client), str(client), repr(vars(client)["_session"])]
    replies: list[Fault | Reply] = [
        Fault.DROP,
        Fault.HANG,
        *[Reply(status, "x") for status in (200, 302, 401, 403, 409, 500)],
    ]
    for reply in replies:
        front.fail(reply)
        with pytest.raises((ApiRefused, ApiUnreachable)) as error:
            client.start(1, generation=1, run_id="run")
        texts += [str(error.value), repr(error.value), repr(error.value.args)]
    assert len(texts) == 3 + 3 * len(replies)
    assert not [text for text in texts if token in text]


def test_the_environment_names_neither_proxy_nor_password(
    client: ReportQueueClient, front: Front, token: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert client.claim("sensor").items == []
    assert front.calls[0].headers["Authorization"] == f"Token {token}"


def test_the_access_log_of_the_web_app_shows_who_calls(client: ReportQueueClient, front: Front):
    client.claim("sensor")
    # The version comes from the installed package, which a checkout is not: tests/acceptance/test_package.py has it.
    assert front.calls[0].headers["User-Agent"].startswith("reportqueue")


def test_a_private_certificate_authority_is_taken_from_the_environment(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    client = make_client("https://127.0.0.1:9", retries=0)
    with pytest.raises(ApiUnreachable, match=r"invalid path: /nowhere/ca\.pem"):
        client.claim("sensor")


def test_a_clone_is_another_session_with_the_same_api(client: ReportQueueClient, front: Front):
    front.fail(Reply(502))
    clone = client.clone(retries=0)
    with pytest.raises(ApiUnreachable):
        clone.claim("sensor")
    assert len(front.calls) == 1
    clone.close()
    front.heal()
    assert client.claim("sensor").items == []


def test_an_expired_rows_token_is_stale_once_it_is_rescued(client: ReportQueueClient):
    run = started(client)
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    assert client.claim("other").items == [], "it waits for its next attempt"
    with pytest.raises(Conflict, match="not") as conflict:
        client.heartbeat(run.item.queue_id, lease_token=run.lease_token)
    assert (conflict.value.kind, conflict.value.current_status) == ("stale-lease", "queued")


def test_rows_are_started_renewed_and_completed_together(client: ReportQueueClient):
    rows = [build_row(), build_row()]
    items = client.claim("sensor").items
    generations = {item.queue_id: item.generation for item in items}
    assert client.renew_dispatch_many(generations, run_id="run") == dict.fromkeys(generations, True)
    gone = max(generations) + 1
    started = client.start_many({**generations, gone: 1}, run_id="run", worker="host:1", lease_seconds=60)
    assert list(started) == [*generations, gone], "in the order asked"
    refused = started.pop(gone)
    assert isinstance(refused, ApiRefused)
    assert refused.moved_on
    tokens = {pk: one.lease_token for pk, one in started.items() if isinstance(one, Started)}
    assert len(tokens) == 2
    queue.cancel(rows[1].pk)
    beats = client.heartbeat_many(tokens, progress={rows[0].pk: "a\x00b"}, lease_seconds=60)
    assert beats == {rows[0].pk: False, rows[1].pk: True}
    assert rows[0].attempts.get().progress == "a\ufffdb"
    answers = client.complete_many(tokens, results={rows[0].pk: {"rows": 3}, rows[1].pk: {"text": "a\x00b"}})
    bad = answers[rows[1].pk]
    assert answers[rows[0].pk] == "succeeded"
    assert isinstance(bad, ApiRefused)
    assert (bad.status, bad.kind) == (400, "validation")
    lost = client.heartbeat_many(tokens, progress={})[rows[0].pk]
    assert isinstance(lost, Conflict)
    assert (lost.kind, lost.current_status) == ("stale-lease", "succeeded")


def test_a_row_that_cannot_be_reached_just_now_is_no_refusal_of_it(lost: ReportQueueClient, stranger: Front):
    rows = [
        {"queue_id": 7, "code": 503, "answer": {"type": "busy", "detail": "Another transaction holds it."}},
        {"queue_id": 8, "code": 400, "answer": {"type": "validation", "detail": "too long"}},
        {"queue_id": 9, "code": 200, "answer": {"cancel_requested": False}},
    ]
    stranger.fail(Reply(200, json.dumps({"rows": rows})))
    answers = lost.heartbeat_many(dict.fromkeys((7, 8, 9), uuid4()), progress={})
    assert [type(answer) for answer in answers.values()] == [ApiUnreachable, ApiRefused, bool]
    assert str(answers[7]) == "row 7: Another transaction holds it."


@pytest.mark.parametrize(
    "body",
    [
        '{"rows": []}',
        '{"rows": [{"queue_id": 8, "code": 200, "answer": {"status": "succeeded"}}]}',
        '{"rows": [{"queue_id": 7, "code": 200, "answer": {}}]}',
        '{"rows": [{"queue_id": 7, "code": 409, "answer": {}}]}',
        '{"rows": {}}',
    ],
)
def test_an_answer_that_leaves_out_a_row_is_none(stranger: Front, body: str):
    stranger.fail(Reply(200, body))
    client = ReportQueueClient(stranger.url, "token", retries=0)
    with pytest.raises(ApiUnreachable, match="not an answer for each row"):
        client.complete_many({7: uuid4()}, results={7: None})
    client.close()
