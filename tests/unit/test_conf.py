"""The settings are read once, and anew when they change."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from reportqueue.conf import Conf, conf


def test_the_same_settings_are_read_once(settings: Any):
    settings.REPORTQUEUE = {"MAX_WAITERS": 7}
    assert conf() is conf()


def test_other_settings_are_read_anew(settings: Any):
    settings.REPORTQUEUE = {"MAX_WAITERS": 7}
    assert conf().max_waiters == 7
    settings.REPORTQUEUE = {"MAX_WAITERS": 8}
    assert conf().max_waiters == 8
    del settings.REPORTQUEUE
    assert conf().max_waiters == Conf.max_waiters


def test_a_setting_that_is_written_into_the_dict_is_read(settings: Any):
    settings.REPORTQUEUE = {"MAX_WAITERS": 7, "WEBHOOK_ALLOWED_NETWORKS": ["10.0.0.0/8"]}
    assert conf().max_waiters == 7
    settings.REPORTQUEUE["MAX_WAITERS"] = 8
    assert conf().max_waiters == 8
    settings.REPORTQUEUE["WEBHOOK_ALLOWED_NETWORKS"].append("nowhere/at all")
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        conf()


def test_an_alias_that_is_gone_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(settings.DATABASES, "reports", {})
    settings.REPORTQUEUE = {"DATABASE": "reports"}
    assert conf().database == "reports"
    monkeypatch.delitem(settings.DATABASES, "reports")
    with pytest.raises(ImproperlyConfigured, match="alias in DATABASES"):
        conf()
