"""Every address of the app's admin, for each kind of person: what a GET answers, and that a forged POST writes nothing.

The addresses are those of the URL resolver: a new page needs an entry in `PAGES`, a new action one in `ACTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.db.models import Q
from django.test import Client, RequestFactory
from django.urls import reverse

from reportqueue import bulk, outbox, queue, schedules, tokens
from reportqueue.admin import schedule_backfill
from reportqueue.models import (
    AlertRule,
    BlackoutCalendar,
    BulkAction,
    EventDelivery,
    Report,
    WebhookSource,
    WebhookSubscription,
)
from reportqueue.models.bulk import BulkStatus
from reportqueue.models.event import DeliveryStatus
from reportqueue.states import Status
from reportqueue.wakeup import pages as wakeup_pages
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_failure_groups import failed

pytestmark = pytest.mark.django_db

Body = Callable[["World", Any], dict[str, Any]]
OF_OTHER_APPS = {"view_user", "change_user"}
"""Permissions of the modifiers' own admin, which here are users."""
WRITTEN = [*apps.get_app_config("reportqueue").get_models(), LogEntry]
"""The tables in which a page could write."""


@dataclass(frozen=True)
class World:
    """One of each thing, by the name that an entry has for it; the keys of their pages."""

    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """Who may GET and POST an address. A need is a set of permissions of which one is enough."""

    subject: str = ""
    """The thing in its address."""
    get: int = 200
    """The status for who may; 405 is everybody's who is logged in."""
    sees: tuple[frozenset[str], ...] = ()
    """What a GET needs; empty: to be of the staff."""
    post: int = 403
    """The status for who may; 403 and 405 are everybody's."""
    writes: tuple[frozenset[str], ...] = ()
    """What a POST needs."""
    body: Body = field(default=lambda _world, _page: {})
    """What is posted; it would write something."""
    effect: bool = True
    """Whether the POST of who may writes."""
    query: str = ""


def one(*codenames: str) -> frozenset[str]:
    """A need."""
    return frozenset(codenames)


def may_view(model: str) -> frozenset[str]:
    """As Django has it: who may change, may look."""
    return one(f"view_{model}", f"change_{model}")


def inputs_of(page: Any) -> dict[str, Any]:
    """What a browser would post of the form of a page."""
    context = page.context
    form = context["adminform"].form if "adminform" in context else context["form"]
    data: dict[str, Any] = {}
    for bound in form:
        value, widget = bound.value(), bound.field.widget
        if hasattr(widget, "decompress"):
            values = widget.decompress(value)
            data |= {f"{bound.html_name}_{place}": part or "" for place, part in enumerate(values)}
        elif value is not None and value is not False:
            data[bound.html_name] = value
    for formset in context.get("inline_admin_formsets") or []:
        prefix = formset.formset.prefix
        counts = {"TOTAL": 0, "INITIAL": 0, "MIN_NUM": 0, "MAX_NUM": 60}
        data |= {f"{prefix}-{name}_FORMS": count for name, count in counts.items()}
    return data


def form(**changes: Any) -> Body:
    """The form of the page, with these inputs changed."""
    return lambda _world, page: {**inputs_of(page), **changes}


def fixed(**data: Any) -> Body:
    """These inputs."""
    return lambda _world, _page: data


def backfill(world: World, _page: Any) -> dict[str, Any]:
    """The confirmation of a backfill of three years, whose page has shown the count."""
    span = {"start": "2020-01-01T00:00", "end": "2023-01-01T00:00"}
    start, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2023))
    counted = schedules.backfill(world.keys["schedule"], start, end, dry_run=True)
    return {**span, "confirmed": schedule_backfill._fingerprint(counted)}


QUEUE, SCHEDULE = may_view("reportqueue"), may_view("reportschedule")
STAFF: tuple[frozenset[str], ...] = ()
REQUEUE, CANCEL = one("requeue_reportqueue"), one("cancel_reportqueue")
ENQUEUE, PAUSE, MUTE = one("add_reportqueue"), one("pause_reportqueue"), one("mute_reportqueue")
CHANGE_SCHEDULE, CHANGE_TOKEN = one("change_reportschedule"), one("change_apitoken")
CHANGE_SUBSCRIPTION = one("change_webhooksubscription")
DELIVERIES, REDELIVER = one("view_eventdelivery"), one("redeliver_eventdelivery")
SEE_PAUSES = one("view_reportqueue", "view_pause", "change_pause")
SEE_BULK = one("view_reportqueue")


def of_model(
    name: str, subject: str, sees: frozenset[str], *, add: Page | None = None, change: Page | None = None
) -> dict[str, Page]:
    """Django's own pages of a model; without `add` and `change`, nobody may add, change or delete."""
    delete = Page(subject, 200, (one(f"delete_{name}"),), 302, (one(f"delete_{name}"),), fixed(post="yes"))
    return {
        f"{name}:changelist": Page("", 200, (sees,), 200, (sees,), effect=False),
        f"{name}:add": add or Page("", 403),
        f"{name}:history": Page(subject, 200, (sees,), 200, (sees,), effect=False),
        f"{name}:delete": delete if change else Page(subject, 403),
        f"{name}:change": change or Page(subject, 200, (sees,)),
        f"{name}:shortcut": Page(subject, 302, STAFF, 302, STAFF, effect=False),
    }


def add(name: str, /, **changes: Any) -> Page:
    """The page that adds one."""
    need = (one(f"add_{name}"),)
    return Page("", 200, need, 302, need, form(**changes))


def change(name: str, subject: str, /, **changes: Any) -> Page:
    """The page that changes one."""
    return Page(subject, 200, (may_view(name),), 302, (one(f"change_{name}"),), form(**changes))


def order(subject: str, sees: frozenset[str], need: frozenset[str], **data: Any) -> Page:
    """A button: an address that takes only POST."""
    return Page(subject, 405, STAFF, 302, (sees, need), fixed(**data))


PAGES: dict[str, Page] = {
    **of_model("auditentry", "entry", one("view_auditentry")),
    **of_model(
        "alertrule",
        "rule",
        may_view("alertrule"),
        add=add("alertrule", name="new", condition="late", emails="desk@example.com"),
        change=change("alertrule", "rule", name="other"),
    ),
    "alertrule:test": Page("rule", 405, STAFF, 302, (one("change_alertrule"),)),
    **of_model("bulkaction", "started", SEE_BULK),
    "bulkaction:change": Page("started", 302, (SEE_BULK,)),
    **of_model(
        "blackoutcalendar",
        "calendar",
        may_view("blackoutcalendar"),
        add=add("blackoutcalendar", name="New"),
        change=change("blackoutcalendar", "calendar", name="Other"),
    ),
    **of_model(
        "report",
        "report",
        may_view("report"),
        add=add("report", report_id=99, name="New"),
        change=change("report", "report", name="Other"),
    ),
    "report:pause": order("report", may_view("report"), PAUSE),
    "report:resume": order("paused_report", may_view("report"), PAUSE),
    **of_model("pause", "pause", SEE_PAUSES),
    "pause:add": Page("", 200, (PAUSE,), 302, (PAUSE,), form(scope="queue")),
    "pause:delete": Page("pause", 200, (PAUSE,), 302, (PAUSE,), fixed(post="yes")),
    **of_model("reportqueue", "failed", QUEUE),
    "reportqueue:requeue": order("failed", QUEUE, REQUEUE),
    "reportqueue:cancel": order("queued", QUEUE, CANCEL),
    "reportqueue:enqueue": Page("", 200, (QUEUE, ENQUEUE), 302, (QUEUE, ENQUEUE), fixed(report_id=8, modifier_id=1)),
    "reportqueue:modifiers": Page("", 200, (one("view_user", "change_user"),), 405),
    "reportqueue:bulk": Page("", 200, (QUEUE, REQUEUE), 302, (QUEUE, REQUEUE), query="?verb=requeue&status=failed"),
    "reportqueue:bulk_action": Page("started", 200, (QUEUE,), 405),
    "reportqueue:bulk_pause": order("started", QUEUE, REQUEUE),
    "reportqueue:bulk_resume": order("held", QUEUE, REQUEUE),
    "reportqueue:bulk_stop": order("started", QUEUE, REQUEUE),
    "reportqueue:bulk_undo": order("done", QUEUE, CANCEL),
    "reportqueue:failures": Page("", 200, (QUEUE,), 405),
    "reportqueue:failures_mute": order("failure", QUEUE, MUTE),
    "reportqueue:failures_unmute": order("muted", QUEUE, MUTE),
    "reportqueue:events": Page("", 503, (QUEUE | SCHEDULE,), 405),  # the tests let it have no stream
    "reportqueue:changed": Page("", 200, (QUEUE | SCHEDULE,), 405),
    "reportqueue:zone": Page("", 200, (one("*"),), 302, (one("*"),), fixed(zone="Europe/Paris"), effect=False),
    "reportqueue:export": Page("", 200, (QUEUE,), 405),
    **of_model(
        "reportschedule",
        "schedule",
        SCHEDULE,
        add=add("reportschedule", report_id=8, modifier_id=3, cron="0 12 * * *"),
        change=change("reportschedule", "schedule", cron="0 13 * * *"),
    ),
    "reportschedule:pause": order("schedule", SCHEDULE, CHANGE_SCHEDULE),
    "reportschedule:resume": order("resting", SCHEDULE, CHANGE_SCHEDULE),
    "reportschedule:run": order("schedule", SCHEDULE, ENQUEUE),
    "reportschedule:backfill": Page("schedule", 200, (SCHEDULE, ENQUEUE), 302, (SCHEDULE, ENQUEUE), backfill),
    "reportschedule:preview_new": Page(
        "", 200, (one("add_reportschedule"),), 200, (one("add_reportschedule"),), fixed(cron="x"), effect=False
    ),
    "reportschedule:preview": Page(
        "schedule", 200, (CHANGE_SCHEDULE,), 200, (CHANGE_SCHEDULE,), fixed(cron="x"), effect=False
    ),
    "reportschedule:agenda": Page("", 200, (SCHEDULE,), 405),
    "reportschedule:export": Page("", 200, (SCHEDULE,), 405),
    **of_model(
        "apitoken",
        "token",
        may_view("apitoken"),
        add=add("apitoken", name="new"),
        change=change("apitoken", "token", name="other"),
    ),
    "apitoken:revoke": Page("token", 200, (CHANGE_TOKEN,), 302, (CHANGE_TOKEN,)),
    **of_model("eventdelivery", "delivery", DELIVERIES),
    "eventdelivery:redeliver": order("delivery", DELIVERIES, REDELIVER),
    **of_model(
        "webhooksubscription",
        "subscription",
        may_view("webhooksubscription"),
        add=add("webhooksubscription", url="https://example.com/new", event_types=["report.failed"]),
        change=change("webhooksubscription", "subscription", description="other"),
    ),
    "webhooksubscription:rotate": Page("subscription", 405, STAFF, 302, (CHANGE_SUBSCRIPTION,)),
    "webhooksubscription:test": Page("subscription", 405, STAFF, 302, (CHANGE_SUBSCRIPTION,)),
    **of_model(
        "webhooksource",
        "webhook",
        may_view("webhooksource"),
        add=add("webhooksource", name="new", report_id=8, modifier_id=1),
        change=change("webhooksource", "webhook", priority=5),
    ),
}
ACTIONS: dict[str, Page] = {
    "reportqueue:requeue_selected": Page("failed", writes=(QUEUE, REQUEUE)),
    "reportqueue:cancel_selected": Page("queued", writes=(QUEUE, CANCEL)),
    "reportschedule:pause_selected": Page("schedule", writes=(SCHEDULE, CHANGE_SCHEDULE)),
    "reportschedule:resume_selected": Page("resting", writes=(SCHEDULE, CHANGE_SCHEDULE)),
    "reportschedule:run_selected": Page("schedule", writes=(SCHEDULE, ENQUEUE)),
    "reportschedule:delete_selected": Page("schedule", writes=(SCHEDULE, one("delete_reportschedule"))),
    "report:delete_selected": Page("report", writes=(may_view("report"), one("delete_report"))),
    "alertrule:delete_selected": Page("rule", writes=(may_view("alertrule"), one("delete_alertrule"))),
    "eventdelivery:redeliver_selected": Page("delivery", writes=(DELIVERIES, REDELIVER)),
    "webhooksubscription:delete_selected": Page(
        "subscription", writes=(may_view("webhooksubscription"), one("delete_webhooksubscription"))
    ),
    "pause:resume_selected": Page("pause", writes=(SEE_PAUSES, PAUSE)),
    "blackoutcalendar:delete_selected": Page(
        "calendar", writes=(may_view("blackoutcalendar"), one("delete_blackoutcalendar"))
    ),
    "apitoken:revoke_selected": Page("token", writes=(CHANGE_TOKEN,)),
    "apitoken:delete_selected": Page("token", writes=(may_view("apitoken"), one("delete_apitoken"))),
    "webhooksource:rotate_secret": Page("webhook", writes=(one("change_webhooksource"),)),
    "webhooksource:delete_selected": Page("webhook", writes=(may_view("webhooksource"), one("delete_webhooksource"))),
}


def registered() -> dict[str, Any]:
    """The app's pages in the admin, by the name of their model."""
    return {
        model._meta.model_name or "": page
        for model, page in admin.site._registry.items()
        if model._meta.app_label == "reportqueue"
    }


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One of each thing."""

    def no_stream() -> None:
        raise wakeup_pages.NoRoom

    monkeypatch.setattr(wakeup_pages, "Stream", no_stream)
    Report(report_id=7, name="Weather").save()
    Report(report_id=8, name="Water").save()
    queue.pause(report_id=8)
    pause = queue.pause(route="finance", by="anna")
    row, known, queued = failed("ValueError: no"), failed("KeyError: no"), build_row(modifier_id=3)
    build_row(status=Status.FAILED, modifier_id=4)  # of the bulk action that is done
    started, held = (bulk.start("requeue", {"status": ["failed"]}, by="anna") for _ in range(2))
    BulkAction.objects.filter(pk=held.pk).update(status=BulkStatus.PAUSED)
    done = bulk.start("requeue", {"modifier_id": 4}, by="anna")
    BulkAction.objects.filter(pk=started.pk).update(status=BulkStatus.PAUSED)
    while bulk.step(1).left:
        pass
    BulkAction.objects.filter(pk=started.pk).update(status=BulkStatus.RUNNING)
    queue.mute(known.fingerprint, by="anna")
    resting = build_schedule(modifier_id=9, enabled=False)
    subscription = WebhookSubscription(url="https://example.com/", event_types=["report.succeeded"])
    subscription.save()
    delivery = outbox.send_test(subscription.pk)
    EventDelivery.objects.filter(pk=delivery.pk).update(status=DeliveryStatus.DEAD, finished_at=minutes_ago(1))
    owner = User.objects.create_user("owner")
    return World(
        {
            "report": 7,
            "paused_report": 8,
            "pause": pause.pk,
            "failed": row.pk,
            "queued": queued.pk,
            "started": started.pk,
            "held": held.pk,
            "done": done.pk,
            "failure": row.fingerprint,
            "muted": known.fingerprint,
            "schedule": build_schedule().pk,
            "resting": resting.pk,
            "rule": AlertRule.objects.create(name="desk", condition="late", emails=["desk@example.com"]).pk,
            "subscription": subscription.pk,
            "delivery": delivery.pk,
            "calendar": BlackoutCalendar.objects.create(name="Holidays").pk,
            "webhook": WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2).pk,
            "token": tokens.issue(owner, name="shop").token.pk,
            "entry": apps.get_model("reportqueue", "AuditEntry").objects.latest("pk").pk,
        }
    )


@dataclass(frozen=True)
class People:
    """The browsers of those who ask."""

    user: User
    browser: Client
    root: Client
    """Of a superuser."""
    strict: Client
    """Of the same, but it has to send the form's token."""
    known: set[str]
    """All permissions."""

    def who_may(self, codenames: set[str]) -> Client:
        """The browser of a person of the staff, who has just these permissions from now on."""
        own = Q(content_type__app_label="reportqueue") | Q(content_type__app_label="auth", codename__in=OF_OTHER_APPS)
        found = Permission.objects.filter(own, codename__in=codenames)
        self.user.user_permissions.set(found)
        assert len(found) == len(codenames), f"no such permission among {codenames}"
        return self.browser


@pytest.fixture
def people(db: None) -> People:
    """A person of the staff without a permission, and a superuser."""
    user = User.objects.create_user("staff", is_staff=True)
    root = User.objects.create_user("root", is_staff=True, is_superuser=True)
    browsers = Client(), Client(), Client(enforce_csrf_checks=True)
    for who, browser in zip((user, root, root), browsers, strict=True):
        browser.force_login(who)
    own = Permission.objects.filter(content_type__app_label="reportqueue").values_list("codename", flat=True)
    return People(user, *browsers, {*own, *OF_OTHER_APPS})


def just(needs: tuple[frozenset[str], ...]) -> set[str]:
    """Permissions that are enough."""
    return {"view_report" if need == one("*") else max(need) for need in needs}


def viewing(known: set[str]) -> set[str]:
    """Of these permissions, those to look."""
    return {codename for codename in known if codename.startswith("view_")}


def without(need: frozenset[str], known: set[str]) -> set[str]:
    """All permissions but those of one need."""
    return set() if need == one("*") else known - need


def written() -> str:
    """What is in all tables, in one statement."""
    parts = [
        f"(SELECT count(*) || ':' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t)"  # noqa: S608
        for table in (connection.ops.quote_name(model._meta.db_table) for model in WRITTEN)
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {' || chr(10) || '.join(parts)}")
        return str(cursor.fetchone()[0])


def address_of(name: str, page: Page, world: World) -> str:
    """The address of a page."""
    model, _, own = name.partition(":")
    if own == "shortcut":
        return f"{reverse(f'admin:reportqueue_{model}_changelist')}{world.keys[page.subject]}/"
    args = [world.keys[page.subject]] if page.subject else []
    return reverse(f"admin:reportqueue_{model}_{own}", args=args) + page.query


def to_login(response: Any) -> bool:
    """Whether a stranger is sent to the page with the log-in."""
    return response.status_code == 302 and response["Location"].startswith(reverse("admin:login"))


def errors_of(answer: Any) -> Any:
    """Why a form was refused."""
    form = (answer.context or {}).get("adminform")
    return answer if form is None else dict(form.form.errors)


@contextmanager
def undone() -> Iterator[None]:
    """Roll back what is written within."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_every_address_of_the_resolver_has_an_entry():
    found = {
        f"{model}:{(pattern.name or f'reportqueue_{model}_shortcut').removeprefix(f'reportqueue_{model}_')}"
        for model, page in registered().items()
        for pattern in page.urls
    }
    assert found == set(PAGES)


def test_every_action_of_a_list_has_an_entry():
    request = RequestFactory().get("/")
    request.user = User(is_staff=True, is_superuser=True, is_active=True)
    found = {f"{model}:{name}" for model, page in registered().items() for name in page.get_actions(request)}
    assert found == set(ACTIONS)


@pytest.mark.parametrize("model", registered())
def test_the_addresses_of_a_model_by_person(model: str, world: World, people: People, settings: Any):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MODIFIER_MODEL": "auth.User"}
    for name, page in PAGES.items():
        if name.startswith(f"{model}:"):
            with undone():
                check_page(name, page, world, people)


@pytest.mark.parametrize("model", sorted({name.partition(":")[0] for name in ACTIONS}))
def test_the_actions_of_a_list_by_person(model: str, world: World, people: People):
    for name, page in ACTIONS.items():
        if name.startswith(f"{model}:"):
            with undone():
                check_action(name, page, world, people)


def check_page(name: str, page: Page, world: World, people: People) -> None:
    """Each person GETs the address, and POSTs what would write something."""
    address, known = address_of(name, page, world), people.known
    shown = people.root.get(address)
    assert shown.status_code == page.get, f"{name}: superuser"
    body = page.body(world, shown)
    before = written()

    stranger = Client()
    assert to_login(stranger.get(address)), f"{name}: a stranger"
    assert to_login(stranger.post(address, body)), f"{name}: a stranger"
    assert people.strict.post(address, body).status_code == 403, f"{name}: without the form's token"

    refused = {405: 405}  # for everybody, whatever their permissions
    for need in {*page.sees, *page.writes}:
        client, who = people.who_may(without(need, known)), f"{name}: without {sorted(need)}"
        if need in page.sees:
            assert client.get(address).status_code == refused.get(page.get, 403), who
        if need in page.writes:
            assert client.post(address, body).status_code == refused.get(page.post, 403), who
    client, who = people.who_may(set()), f"{name}: staff without permission"
    if page.sees or page.get == 403:
        assert client.get(address).status_code == 403, who
    if page.writes or page.post == 403:
        assert client.post(address, body).status_code == 403, who
    people.who_may(viewing(known)).post(address, body)
    assert written() == before, f"{name}: without the permission, something was written"

    looks = people.who_may(just(page.sees)).get(address)
    assert looks.status_code == page.get, f"{name}: with just {just(page.sees)}"
    assert written() == before, f"{name}: a GET has written something"
    for client in (people.who_may(just(page.writes) | just(page.sees)), people.root):
        with undone():
            answer = client.post(address, body)
            assert answer.status_code == page.post, (name, errors_of(answer))
            assert (written() != before) == (page.effect and page.post not in (403, 405)), name


def check_action(name: str, page: Page, world: World, people: People) -> None:
    """Each person posts the action for a thing of its list."""
    model, _, action = name.partition(":")
    address, key = reverse(f"admin:reportqueue_{model}_changelist"), world.keys[page.subject]
    body = {"action": action, "index": 0, "_selected_action": [key], "post": "yes", "confirmed": str(key)}
    before = written()
    assert to_login(Client().post(address, body)), f"{name}: a stranger"
    assert people.strict.post(address, body).status_code == 403, f"{name}: without the form's token"
    for codenames in (*(without(need, people.known) for need in page.writes), set(), viewing(people.known)):
        answer = people.who_may(codenames).post(address, body)
        assert answer.status_code in (200, 302, 403)
        assert written() == before, f"{name}: without {sorted(people.known - codenames)}"
    for client in (people.who_may(just(page.writes)), people.root):
        with undone():
            answer = client.post(address, body)
            assert answer.status_code in (200, 302), name
            assert written() != before, name
