"""The mistakes of an installation, found by `manage.py check`."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from reportqueue import checks
from reportqueue.conf import Conf, conf


def identities(problems: list[Any]) -> list[str]:
    return [problem.id for problem in problems]


def test_the_demo_project_passes():
    assert checks.check_settings(None) + checks.check_database(None) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"RUN_LEASE": 5}, "RUN_LEASE"),
        ({"RUN_LEASE_SECONDS": 1}, "RUN_LEASE_SECONDS"),
        ({"RUN_LEASE_SECONDS": "60"}, "RUN_LEASE_SECONDS"),
        ({"RETRY_JITTER": 2}, "RETRY_JITTER"),
        ({"RETRY_JITTER": float("nan")}, "RETRY_JITTER"),
        ({"MAX_BODY_BYTES": True}, "MAX_BODY_BYTES"),
        ({"MAX_WAITERS": -1}, "MAX_WAITERS"),
        ({"RUN_URL": "http://dagster/runs"}, "run_id"),
        ({"RUN_URL": "javascript:alert('{run_id}')"}, "RUN_URL"),
        ({"RUN_URL": "//elsewhere/{run_id}"}, "RUN_URL"),
        ({"MAX_UNSTARTED_RUNS": 0}, "MAX_UNSTARTED_RUNS"),
        ([], "must be a dict"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_a_hint(settings, wrong: Any, said: str):
    settings.REPORTQUEUE = wrong
    (problem,) = checks.check_settings(None)
    assert (problem.id, said in problem.msg) == ("reportqueue.E001", True)
    assert problem.hint
    with pytest.raises(ImproperlyConfigured):
        conf()


def test_the_defaults_hold_without_any_settings(settings):
    del settings.REPORTQUEUE
    assert conf() == Conf()


def test_another_database_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.vendor", "sqlite")
    (problem,) = checks.check_database(None)
    assert problem.id == "reportqueue.E002"
    assert "PostgreSQL" in problem.msg


def test_a_missing_app_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "rest_framework.authtoken")
    (problem,) = checks.check_settings(None)
    assert problem.id == "reportqueue.E003"
    assert "rest_framework.authtoken" in problem.msg
