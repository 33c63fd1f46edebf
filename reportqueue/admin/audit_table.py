"""The entries of the audit about one thing, for its own page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse

from reportqueue.admin import formats
from reportqueue.models import AuditEntry
from reportqueue.models.audit import Kind

SHOWN = 20
"""Entries that the page shows, the newest."""


def of(request: HttpRequest, kind: Kind, pk: object) -> dict[str, Any]:
    """The lines about a thing, and the address of all of them for who may see that list."""
    found = list(AuditEntry.objects.filter(kind=kind, object_id=str(pk))[: SHOWN + 1])
    lines = [
        (formats.instant(one.at), one.by, one.get_via_display(), one.action, changes(one), one.reason) for one in found
    ]
    user: Any = request.user
    more = ""
    if len(found) > SHOWN and user.has_perm("reportqueue.view_auditentry"):
        site = getattr(request, "current_app", None)
        more = f"{reverse('admin:reportqueue_auditentry_changelist', current_app=site)}?q={kind}:{pk}"
    return {"audit_lines": lines[:SHOWN], "audit_more": more, "audit_cut": len(found) > SHOWN}


def changes(entry: AuditEntry) -> str:
    """Each changed field, with its value before and after."""
    if not entry.changes:
        return formats.EMPTY
    return render_to_string("admin/reportqueue/changes.html", {"changes": entry.changes})
