"""Modifiers that are suggested while a person types, in a browser."""

from __future__ import annotations

from django.contrib.auth.models import User

from tests.browser.conftest import PageFactory, playwright_api

expect = playwright_api().expect


def test_a_part_of_a_name_suggests_the_modifier_s_number(page_of: PageFactory, operator: User):
    customer = User.objects.create_user("acme")
    page = page_of(operator)
    page.goto("/admin/reportqueue/reportqueue/enqueue/")
    page.get_by_label("Modifier").press_sequentially("acm")
    suggested = page.locator("datalist#modifier_id-suggestions option")
    expect(suggested).to_have_attribute("value", str(customer.pk))
    expect(suggested).to_have_text("acme")
