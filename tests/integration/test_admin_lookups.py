"""No list of the admin can be asked for more than it offers: a condition in the URL would reveal what no page shows."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Field, Model
from django.test import Client

from reportqueue.admin.changelists import ListAdmin
from reportqueue.models import WebhookSource
from tests.integration.test_admin_permissions import staff

OURS = [(model, page) for model, page in admin.site._registry.items() if model._meta.app_label == "reportqueue"]
VIEWS = ["view_reportqueue", "view_reportschedule", "view_blackoutcalendar", "view_webhooksource", "view_apitoken"]
VIEWS += ["view_report", "view_pause", "view_auditentry"]
VIEWS += ["view_webhooksubscription", "view_eventdelivery", "view_alertrule"]
LOOKUPS = ["", "__exact", "__startswith", "__gt", "__regex", "__contains", "__isnull", "__in"]


@pytest.fixture
def viewer(db: None) -> Client:
    """A staff member who may see everything and change nothing."""
    return staff(*VIEWS)


def address(model: type[Model]) -> str:
    return f"/admin/reportqueue/{model._meta.model_name}/"


def is_refused(response: Any) -> bool:
    return response.status_code == 400 or (response.status_code == 302 and response["Location"].endswith("?e=1"))


def test_every_list_has_the_base_that_refuses():
    assert len(OURS) == 12
    assert [model for model, page in OURS if not isinstance(page, ListAdmin)] == []


@pytest.mark.parametrize(("model", "page"), OURS, ids=[model.__name__ for model, _ in OURS])
def test_a_condition_that_the_list_does_not_offer_is_refused(viewer: Client, model: type[Model], page: Any):
    offered = {chosen.parameter_name for chosen in page.list_filter if hasattr(chosen, "parameter_name")}
    offered |= {
        name for chosen in page.list_filter if hasattr(chosen, "form_class") for name in chosen.form_class.base_fields
    }
    fields = [field.name for field in model._meta.get_fields() if isinstance(field, Field)]
    tried = [f"{field}{lookup}" for field in fields for lookup in LOOKUPS]
    tried += ["schedule__params__has_key", "calendar__name__startswith", "attempts__lease_token__startswith"]
    assert [
        name for name in tried if name not in offered and not is_refused(viewer.get(address(model), {name: "a"}))
    ] == []


def test_the_seed_of_a_webhook_cannot_be_found_out_letter_by_letter(viewer: Client):
    source = WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2)
    page = address(WebhookSource)
    for query in (
        {"seed__startswith": source.seed[:1]},
        {"seed__startswith": "?"},
        {"previous_seed": ""},
        {"enabled__exact": "1", "seed__gt": "A"},
        {"q": "shop", "seed__regex": "."},
    ):
        assert is_refused(viewer.get(page, query)), query
    assert source.name in viewer.get(page, {"enabled": "yes"}).content.decode()
    assert ">shop<" not in viewer.get(page, {"enabled": "no"}).content.decode()
    assert ">shop<" not in viewer.get(page, {"q": source.seed}).content.decode()
    assert viewer.get(f"{page}{source.seed}/change/?_to_field=seed").status_code == 400
