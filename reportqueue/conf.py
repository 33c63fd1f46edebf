"""The project's `REPORTQUEUE` settings dict, with its defaults; read lazily, checked by `reportqueue.checks`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from ipaddress import ip_network
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from reportqueue import bounds

OWN_TOKENS = "reportqueue.api.authentication.ApiTokenAuthentication"
DRF_TOKENS = "rest_framework.authentication.TokenAuthentication"
DRF_TOKENS_APP = "rest_framework.authtoken"
SESSIONS = "rest_framework.authentication.SessionAuthentication"


@dataclass(frozen=True, kw_only=True)
class Conf:
    """Each field is a key of `REPORTQUEUE` in upper case; times are in seconds."""

    claim_lease_seconds: int = 120
    """How long a consumer may hold claimed rows without acknowledging them."""
    dispatch_lease_seconds: int = 900
    """How long a run may take from acknowledged to started; size it to the longest wait in Dagster's run queue."""
    run_lease_seconds: int = 60
    """How long a run may be silent. Runs send heartbeats three times as often."""
    retry_backoff_seconds: int = 30
    """The delay before the second attempt; it doubles with each further one."""
    retry_backoff_max_seconds: int = 3600
    retry_jitter: float = 0.2
    """The share of a delay that is random, so that reports that failed together are not all retried together."""
    max_releases: int = 10
    """How often runs may begin a report and give it back; each time after that uses up an attempt."""
    max_unstarted_runs: int = 20
    """How many runs in a row may end without starting a row; then the row fails. With the default delays, 14 hours."""
    misfire_grace_seconds: int = 60
    """A firing that is found later than this was missed: the schedule's catch-up policy decides what becomes of it."""
    expand_on_claim: bool = True
    """Whether a claim also queues the due firings of schedules: a small installation needs no scheduler process."""
    wait_poll_seconds: float = 0.5
    """Poll interval of a waiting claim when LISTEN/NOTIFY does not work. With NOTIFY it polls every 15 s."""
    database: str = DEFAULT_DB_ALIAS
    """The alias in `DATABASES` of the queue's database, for `reportqueue.routers.ReportQueueRouter`."""
    listen_database: str = ""
    """The alias in `DATABASES` of a connection without a pool, for LISTEN; empty: the queue's own connection."""
    max_waiters: int = 8
    """How many claims may wait in one process, each in a thread. A further claim is answered at once, empty."""
    max_streams: int = 4
    """How many live pages of the admin may be notified in one process, each in a thread. Further pages poll."""
    live_share: float = 0.04
    """How much of its time a process spends on live pages of the admin at most. With more, each page is refreshed less
    often."""
    lock_timeout_seconds: float = 2
    """How long a call waits for a row that another transaction holds, before it is answered with 503."""
    max_body_bytes: int = 8 * 1024 * 1024
    """A larger request body is answered with 413."""
    overdue_seconds: int = 300
    """`/status` says so when a schedule is overdue by more than this: no scheduler runs, and nothing claims."""
    stalled_seconds: int = 300
    """`/status`, the admin and the scheduler's log say so when no launched report has started for this long."""
    run_url: str = ""
    """The page of a run: a URL with `{run_id}`, for instance `https://dagster.example.com/runs/{run_id}`.

    It may have `{consumer}`, if each consumer has a Dagster of its own."""
    trace_url: str = ""
    """The page of a trace: a URL with `{trace_id}`, for instance `https://traces.example.com/trace/{trace_id}`."""
    modifier_model: str = ""
    """The model whose rows are the modifiers, such as `crm.Customer`: the admin and commands then show their names."""
    delete_artifacts: str = ""
    """A function, as a dotted path, that deletes the files of rows of a modifier that is erased."""
    authentication_classes: Sequence[str] | None = None
    """The authentication classes of the API, as dotted paths. None: `authentication_classes()` says which."""
    webhook_threads: int = 8
    """How many webhooks a process sends at once. With 0, `enqueue_due_reports` sends none: `deliver_events` has to."""
    webhook_timeout_seconds: float = 10
    """How long a webhook may take, from the look-up of its host to the end of its answer."""
    webhook_retry_seconds: int = 86_400
    """For how long a delivery is tried again, after growing delays. Then it is given up."""
    webhook_disable_seconds: int = 5 * 86_400
    """A subscription is disabled when all its attempts have failed for this long."""
    webhook_allowed_networks: Sequence[str] = ()
    """Networks such as `10.1.0.0/16`, and hosts, that webhooks may be sent to though they are not public."""
    webhook_allow_http: bool = False
    """Whether webhooks may be sent to http:// addresses: what they say can then be read on the way."""
    site_url: str = ""
    """The address of the web app, such as `https://reports.example.com`: alerts then link to the admin's pages."""
    alert_channels: Mapping[str, str] | None = None
    """Where alerts are sent beside mail: names, each with an address of `apprise`, which may hold a secret."""
    event_retention_seconds: int = 30 * 86_400
    """`prune_report_queue` deletes events that have been delivered or given up for longer than this."""
    metrics_token: str = ""
    """`/metrics` answers callers that send this text as a bearer token; empty: nobody, unless `METRICS_OPEN`."""
    metrics_open: bool = False
    """Whether `/metrics` answers everybody."""
    metrics_labels: int = 50
    """So many reports, routes, consumers and pauses are named in `/metrics`, of each; all others are `other`."""
    dagster_url: str = ""
    """Dagster's webserver, which is told when schedules change; empty: no webserver is told."""

    def __post_init__(self) -> None:
        for name in ("claim_lease_seconds", "dispatch_lease_seconds", "run_lease_seconds"):
            _between(name, getattr(self, name), bounds.MIN_LEASE_SECONDS, bounds.MAX_LEASE_SECONDS)
        _between("retry_backoff_seconds", self.retry_backoff_seconds, 0, bounds.MAX_DELAY_SECONDS)
        _between("retry_backoff_max_seconds", self.retry_backoff_max_seconds, 0, bounds.MAX_DELAY_SECONDS)
        _between("retry_jitter", self.retry_jitter, 0, 1)
        _between("max_releases", self.max_releases, 0, 1_000)
        _between("max_unstarted_runs", self.max_unstarted_runs, 1, 1_000)
        _between("misfire_grace_seconds", self.misfire_grace_seconds, 1, bounds.MAX_LEASE_SECONDS)
        if not isinstance(self.expand_on_claim, bool):
            raise ImproperlyConfigured("REPORTQUEUE['EXPAND_ON_CLAIM'] must be True or False.")
        _between("wait_poll_seconds", self.wait_poll_seconds, 0.05, bounds.MAX_WAIT_SECONDS)
        if self.database not in tuple(settings.DATABASES):
            raise ImproperlyConfigured("REPORTQUEUE['DATABASE'] must be an alias in DATABASES.")
        if self.listen_database not in ("", *settings.DATABASES):
            raise ImproperlyConfigured("REPORTQUEUE['LISTEN_DATABASE'] must be an alias in DATABASES, or empty.")
        _between("max_waiters", self.max_waiters, 0, 10_000)
        _between("max_streams", self.max_streams, 0, 10_000)
        _between("live_share", self.live_share, 0.001, 1)
        _between("lock_timeout_seconds", self.lock_timeout_seconds, 0.05, 30)
        _between("max_body_bytes", self.max_body_bytes, 1024, 2**31)
        _between("overdue_seconds", self.overdue_seconds, 1, bounds.MAX_LEASE_SECONDS)
        _between("stalled_seconds", self.stalled_seconds, 1, bounds.MAX_LEASE_SECONDS)
        _link("RUN_URL", self.run_url, "{run_id}")
        _link("TRACE_URL", self.trace_url, "{trace_id}")
        if not isinstance(self.dagster_url, str) or not re.fullmatch(r"(https?://[^\s?#]+)?", self.dagster_url):
            raise ImproperlyConfigured("REPORTQUEUE['DAGSTER_URL'] must be an http:// or https:// address, or empty.")
        if not isinstance(self.metrics_open, bool):
            raise ImproperlyConfigured("REPORTQUEUE['METRICS_OPEN'] must be True or False.")
        if not isinstance(self.metrics_token, str) or not re.fullmatch(r"([!-~]{16,200})?", self.metrics_token):
            raise ImproperlyConfigured(
                "REPORTQUEUE['METRICS_TOKEN'] must be a text of 16 to 200 ASCII characters without blanks, or empty."
            )
        if self.metrics_open and self.metrics_token:
            raise ImproperlyConfigured(
                "REPORTQUEUE has METRICS_OPEN and a METRICS_TOKEN, which would not be asked for: leave one of them out."
            )
        _between("metrics_labels", self.metrics_labels, 1, bounds.MAX_METRICS_LABELS)
        if not isinstance(self.modifier_model, str) or not re.fullmatch(r"(\w+\.\w+)?", self.modifier_model):
            raise ImproperlyConfigured(
                "REPORTQUEUE['MODIFIER_MODEL'] must name a model as app_label.Model, or be empty."
            )
        if not isinstance(self.delete_artifacts, str) or not re.fullmatch(r"(\w+(\.\w+)+)?", self.delete_artifacts):
            raise ImproperlyConfigured(
                "REPORTQUEUE['DELETE_ARTIFACTS'] must be the dotted path of a function, or empty."
            )
        _between("webhook_threads", self.webhook_threads, 0, bounds.MAX_WEBHOOK_THREADS)
        _between("webhook_timeout_seconds", self.webhook_timeout_seconds, 0.1, 30)
        _between("webhook_retry_seconds", self.webhook_retry_seconds, 1, bounds.MAX_DELAY_SECONDS)
        _between("webhook_disable_seconds", self.webhook_disable_seconds, 1, bounds.MAX_DELAY_SECONDS)
        _between("event_retention_seconds", self.event_retention_seconds, 3_600, 3_660 * 86_400)
        if not isinstance(self.webhook_allow_http, bool):
            raise ImproperlyConfigured("REPORTQUEUE['WEBHOOK_ALLOW_HTTP'] must be True or False.")
        _networks(self.webhook_allowed_networks)
        if not isinstance(self.site_url, str) or not re.fullmatch(r"(https?://[^\s?#]+)?", self.site_url):
            raise ImproperlyConfigured("REPORTQUEUE['SITE_URL'] must be an http:// or https:// address, or empty.")
        channels = {} if self.alert_channels is None else self.alert_channels
        if not isinstance(channels, Mapping) or not all(
            isinstance(name, str) and re.fullmatch(r"[\w.-]{1,50}", name) and isinstance(address, str)
            for name, address in channels.items()
        ):
            raise ImproperlyConfigured(
                "REPORTQUEUE['ALERT_CHANNELS'] must be a dict: names of letters, digits, dots and dashes, to addresses."
            )
        classes = self.authentication_classes
        if classes is not None and (
            not isinstance(classes, list | tuple) or not classes or not all(isinstance(path, str) for path in classes)
        ):
            raise ImproperlyConfigured(
                "REPORTQUEUE['AUTHENTICATION_CLASSES'] must be a list of one dotted path or more. Without this key, "
                "the app's own tokens and Django's sessions are accepted."
            )


def _between(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ImproperlyConfigured(
            f"REPORTQUEUE['{name.upper()}'] must be a number from {low} to {high}; it is {value!r}."
        )


def _link(name: str, given: Any, place: str) -> None:
    # It becomes a link in the admin: with another scheme it could be a script.
    if not isinstance(given, str) or not re.fullmatch(r"((https?:/)?/[^\s/\\]\S*)?", given):
        raise ImproperlyConfigured(f"REPORTQUEUE['{name}'] must be an http:// or https:// address, or a path.")
    if given and place not in given:
        raise ImproperlyConfigured(f"REPORTQUEUE['{name}'] must contain {place}.")


def _networks(given: Any) -> None:
    if not isinstance(given, list | tuple):
        raise ImproperlyConfigured("REPORTQUEUE['WEBHOOK_ALLOWED_NETWORKS'] must be a list of networks and hosts.")
    for one in given:
        try:
            if not isinstance(one, str):
                raise ValueError("it is no text")
            if "/" in one or ":" in one:
                ip_network(one)
            elif not re.fullmatch(r"[\w.-]+", one):
                raise ValueError("it is no name of a host")
        except ValueError as error:
            raise ImproperlyConfigured(
                f"REPORTQUEUE['WEBHOOK_ALLOWED_NETWORKS'] has {one!r}, which is neither a network, such as "
                f"'10.1.0.0/16', nor a host: {error}."
            ) from None


class _Read(NamedTuple):
    """Settings that were read, and what they mean."""

    given: Mapping[str, Any]
    """The object in Django's settings. Its content may change: code of the project may write into it."""
    content: dict[str, Any]
    aliases: list[str]
    meaning: Conf

    def is_current(self, given: object) -> bool:
        """Whether they are the settings as they are now."""
        return given is self.given and given == self.content and list(settings.DATABASES) == self.aliases


_DEFAULTS: Mapping[str, Any] = {}
_read: _Read | None = None


def conf() -> Conf:
    """The current settings. Raises `ImproperlyConfigured`, naming the key, for an invalid one."""
    global _read
    given = getattr(settings, "REPORTQUEUE", _DEFAULTS)
    read = _read
    if read is not None and read.is_current(given):
        return read.meaning
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("REPORTQUEUE must be a dict.")
    known = {one.name.upper(): one.name for one in fields(Conf)}
    unknown = sorted(map(str, given.keys() - known.keys()))
    if unknown:
        raise ImproperlyConfigured(
            f"REPORTQUEUE has no setting {', '.join(unknown)}. Its settings are {', '.join(sorted(known))}."
        )
    meaning = Conf(**{known[key]: value for key, value in given.items()})
    _read = _Read(given, deepcopy(dict(given)), list(settings.DATABASES), meaning)
    return meaning


def chosen_database() -> str:
    """The setting `DATABASE`. Read by itself: routers are asked for each query, also if another setting is wrong."""
    given = getattr(settings, "REPORTQUEUE", {})
    return str(given.get("DATABASE", Conf.database)) if isinstance(given, Mapping) else Conf.database


def authentication_classes() -> list[Any]:
    """The classes that authenticate the API's callers, in their order.

    Without the setting: the app's own tokens, those of `rest_framework.authtoken` if it is installed, and sessions.
    Raises `ImproperlyConfigured`, naming the path, for one that is no authentication class.
    """
    paths = conf().authentication_classes
    if paths is None:
        paths = [OWN_TOKENS, *([DRF_TOKENS] if apps.is_installed(DRF_TOKENS_APP) else []), SESSIONS]
    return [_authentication_class(path) for path in paths]


def own_tokens_refused() -> str:
    """Why the API does not accept the app's own tokens, with the remedy; empty if it does."""
    if any(issubclass(one, import_string(OWN_TOKENS)) for one in authentication_classes()):
        return ""
    return (
        "The API would not accept this token: no class in REPORTQUEUE['AUTHENTICATION_CLASSES'] accepts the app's own "
        f"tokens. Add {OWN_TOKENS!r} to it, or use the credentials of the classes that it names."
    )


def _authentication_class(path: str) -> Any:
    try:
        found = import_string(path)
    except Exception as error:  # a module may raise anything
        raise _no_authentication_class(path, str(error)) from None
    methods = ("authenticate", "authenticate_header")
    if not isinstance(found, type) or not all(callable(getattr(found, name, None)) for name in methods):
        raise _no_authentication_class(path, "it has no method `authenticate` or `authenticate_header`")
    return found


def _no_authentication_class(path: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"REPORTQUEUE['AUTHENTICATION_CLASSES'] names {path!r}, which is no authentication class of Django REST "
        f"framework: {why}. Correct the path, for instance to {OWN_TOKENS!r}."
    )
