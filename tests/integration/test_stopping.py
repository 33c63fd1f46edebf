"""The web app is told to stop, as in each deployment: what it has begun is answered, and nobody waits for it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import Permission, User

from reportqueue import tokens
from reportqueue.wakeup.claims import Listener
from tests.integration.webapp import running, status_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_web_app_that_is_told_to_stop_answers_waiting_claims_at_once():
    user = User.objects.create_user("dagster")
    user.user_permissions.set(Permission.objects.filter(codename="consume_reportqueue"))
    token = tokens.issue(user, name="test").key
    with running() as web, ThreadPoolExecutor(4) as pool:
        address = f"{web.url}/api/report-queue/claim/"
        claims = [
            pool.submit(status_of, address, token, f'{{"consumer": "{n}", "wait_seconds": 25}}') for n in range(4)
        ]
        time.sleep(2)
        assert not any(claim.done() for claim in claims), "a claim does not wait"
        began = time.monotonic()
        web.process.terminate()
        assert [claim.result() for claim in claims] == [200] * 4
        web.process.wait(timeout=20)
    assert time.monotonic() - began < 10, "it has waited for the claims"


def test_a_claim_that_arrives_while_the_process_ends_does_not_wait():
    listener = Listener()
    listener.stop()
    with listener.waiting() as admitted:
        assert not admitted
