"""The admin's pages under a content security policy: they hold no style and no script of their own."""

from __future__ import annotations

import re
from typing import Any

import django
import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from reportqueue.states import Status
from tests.conftest import RowFactory
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, ScheduleFactory, act, text_of

INLINE = re.compile(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=|javascript:")
STYLE = "/static/reportqueue/admin.css"


def load(client: Client, make_row: RowFactory, make_schedule: ScheduleFactory) -> dict[str, str]:
    """One page of each template, by what it is."""
    rows = [make_row(schedule=make_schedule()) for _ in range(60)]
    schedule = f"{SCHEDULES}{rows[0].schedule_id}/"
    make_row(status=Status.FAILED, error="no", fingerprint="0" * 16)
    return {
        "failures": text_of(client.get(f"{QUEUE}failures/")),
        "list": text_of(client.get(QUEUE)),
        "row": text_of(client.get(f"{QUEUE}{rows[0].pk}/change/")),
        "confirmation": text_of(act(client, "cancel_selected", rows)),
        "schedule": text_of(client.get(f"{schedule}change/")),
        "preview": text_of(client.get(f"{schedule}preview/")),
        "backfill": text_of(client.get(f"{schedule}backfill/")),
        "bulk action": text_of(client.get(f"{QUEUE}bulk/?verb=cancel&status=queued")),
        "agenda": text_of(client.get(f"{SCHEDULES}agenda/")),
    }


def test_pages_hold_no_style_and_no_script(admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    pages = load(admin_client, make_row, make_schedule)
    for name, page in pages.items():
        assert INLINE.findall(page) == [], name
        assert f'href="{STYLE}"' in page, name
    assert finders.find("reportqueue/admin.css")


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django's admin has nonces since 6.1")
def test_with_a_nonce_every_style_and_script_carries_it(
    admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory, settings: Any
):
    from django.utils.csp import CSP  # since Django 6.0

    (templates,) = settings.TEMPLATES
    processors = [*templates["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
    settings.TEMPLATES = [{**templates, "OPTIONS": {"context_processors": processors}}]
    settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
    settings.SECURE_CSP = {"default-src": [CSP.NONCE]}
    for name, page in load(admin_client, make_row, make_schedule).items():
        loaded = re.findall(r"<(?:script|link rel=\"stylesheet\"|link href)[^>]*>", page)
        assert any(STYLE in tag for tag in loaded), name
        assert [tag for tag in loaded if not re.search(r'nonce="[^"]{20,}"', tag)] == [], name


def test_own_pages_have_the_breadcrumbs_of_django(
    admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    pages = load(admin_client, make_row, make_schedule)
    for name, address in {"confirmation": QUEUE, "failures": QUEUE, "backfill": SCHEDULES, "agenda": SCHEDULES}.items():
        (crumbs,) = re.findall(r'class="breadcrumbs">(.*?)</(?:ol|div)>', pages[name], re.DOTALL)
        assert f'<a href="{address}">' in crumbs, name
