"""Modifiers by their names in the admin: an input that suggests them, and the page that answers it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_safe

from reportqueue import bounds, modifiers
from reportqueue.admin.waiting import PatientAdmin

SUGGESTED = 20
"""Modifiers that are suggested for a text."""
MAX_NAMED = 200
"""Modifiers that a part of a name may mean in a search."""
MAX_TEXT = 100
"""Characters of it that are looked for."""


class ModifierInput(forms.TextInput):
    """A text input for a modifier's number that suggests numbers by their names while a person types."""

    class Media:
        """Fills the suggestions."""

        js = ["reportqueue/suggest.js"]

    def __init__(self, site: AdminSite) -> None:
        address = reverse("admin:reportqueue_reportqueue_modifiers", current_app=site.name)
        super().__init__({"data-suggestions": address, "autocomplete": "off", "class": "vTextField"})

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> Any:
        """The input, its list of suggestions, and the name of the modifier that it shows."""
        suggested = f"{name}-suggestions"
        shown = super().render(name, value, {**(attrs or {}), "list": suggested}, renderer)
        number = bounds.as_id(str(value)) if value is not None else None
        known = "" if number is None else modifiers.names([number]).get(number, "")
        below = format_html('<span class="rq-below">{}</span>', known) if known else ""
        return format_html('{}<datalist id="{}"></datalist>{}', shown, suggested, below)


def use_input(field: Any, site: AdminSite) -> None:
    """Give a form's field of a modifier the input with suggestions, if the project's modifiers have names."""
    if field is not None and modifiers.model() is not None:
        field.widget = ModifierInput(site)


def matching(request: HttpRequest, site: AdminSite, text: str) -> QuerySet[Any] | None:
    """The modifiers that this person may see and the text finds, as the search of their own admin does.

    None if they have no admin with a search, or if the person may not see them.
    """
    found = modifiers.model()
    if found is None or not site.is_registered(found):
        return None
    own = site.get_model_admin(found)
    if not own.get_search_fields(request) or not own.has_view_permission(request):
        return None
    rows, duplicates = own.get_search_results(request, own.get_queryset(request), text[:MAX_TEXT])
    return rows.distinct() if duplicates else rows


def modifiers_named(request: HttpRequest, site: AdminSite, text: str) -> list[int]:
    """The modifiers that a part of a name means for this person, at most `MAX_NAMED`."""
    rows = matching(request, site, text)
    return [] if rows is None else list(rows.values_list("pk", flat=True)[:MAX_NAMED])


class SuggestingAdmin(PatientAdmin):
    """The page with the suggestions, for the inputs of all forms."""

    def get_urls(self) -> list[Any]:
        """Django's, and the address of this page."""
        view = self.admin_site.admin_view(require_safe(self.modifiers_view))
        return [path("modifiers/", view, name="reportqueue_reportqueue_modifiers"), *super().get_urls()]

    def modifiers_view(self, request: HttpRequest) -> HttpResponse:
        """`{"results": [{"id": 17, "name": "Acme"}]}` for the text `q`. 403 for who may not see the modifiers."""
        rows = matching(request, self.admin_site, request.GET.get("q", "").replace("\x00", ""))
        if rows is None:
            raise PermissionDenied
        named = [{"id": one.pk, "name": str(one)[: modifiers.MAX_NAME]} for one in rows[:SUGGESTED]]
        return JsonResponse({"results": named})
