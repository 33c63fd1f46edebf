"""The catalogue: what a report is called, what it may be asked, who makes it, and how much of it at once."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import EMPTY_VALUES, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import DatabaseError, IntegrityError, models
from django.db.models import Q, Value
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, database, notices, params_schema
from reportqueue.clock import ClockTimestamp
from reportqueue.errors import ReportNotFound

DEFAULT_ROUTE = "default"
ROUTE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,49}")
NUMBERS = (
    "max_attempts",
    "lease_seconds",
    "max_running",
    "max_running_per_modifier",
    "rate_limit",
    "rate_period_seconds",
    "expires_after_seconds",
    "deadline_seconds",
)
"""The fields that are whole numbers or empty, with the bounds of their names."""
NAME_TAKEN, NUMBER_TAKEN = _("Another report has this name."), _("Another report has this number.")
RATE_NEEDS_BOTH = _("A rate is a number of starts and a period: give both, or neither.")
validate_route = RegexValidator(
    rf"\A(?:{ROUTE.pattern})\Z",
    _("Must be 1 to 50 small letters, digits, '.', '_' or '-', beginning with a letter or digit."),
    code="invalid-route",
)


def _number(label: Any, name: str, **options: Any) -> Any:
    """A whole number within the bounds of its name, or none."""
    low, high = bounds.NUMBERS[name]
    return models.PositiveIntegerField(
        label, null=True, blank=True, validators=[MinValueValidator(low), MaxValueValidator(high)], **options
    )


def _bounded(*names: str) -> Q:
    """The condition that each of these columns is empty or within the bounds of its name."""
    found = Q()
    for name in names:
        found &= Q(**{name: None}) | Q(**{f"{name}__range": bounds.NUMBERS[name]})
    return found


LIMITS = ("max_running", "max_running_per_modifier", "rate_limit")
"""The fields for which a claim may not hand out every row of the report that is due."""


class ReportQuerySet(models.QuerySet["Report"]):
    """Queries of the catalogue."""

    def limiting(self) -> ReportQuerySet:
        """The reports of which a claim may not hand out every row that is due."""
        return self.exclude(**dict.fromkeys(LIMITS))

    def called(self, name: str) -> ReportQuerySet:
        """The report of this name, in whatever letters, as the database compares names."""
        # Not `iexact`: it compares capitals, and then "\N{LATIN SMALL LETTER DOTLESS I}" would be "i".
        return self.annotate(small=Lower("name")).filter(small=Lower(Value(name)))


class Report(models.Model):
    """One report of the catalogue. A row, a schedule or a webhook source of a report without an entry works too.

    No other table refers to this one: rows outlive the entry of their report.
    """

    report_id = models.BigIntegerField(
        _("number"), primary_key=True, validators=bounds.id_validators(), help_text=_("Never changes.")
    )
    name = models.CharField(
        max_length=bounds.MAX_NAME_LENGTH,
        validators=[bounds.validate_text],
        help_text=_("Shown wherever the number would be."),
    )
    description = models.TextField(
        blank=True, max_length=bounds.MAX_DESCRIPTION_LENGTH, validators=[bounds.validate_text]
    )
    owner = models.CharField(
        blank=True,
        max_length=bounds.MAX_NAME_LENGTH,
        validators=[bounds.validate_text],
        help_text=_("Whom to ask: a person or a team."),
    )
    params_schema = models.JSONField(
        _("schema of the parameters"),
        null=True,
        blank=True,
        validators=[params_schema.validate],
        help_text=_("JSON Schema, draft 2020-12. Parameters that do not fit are refused. Empty: any parameters."),
    )
    default_params = models.JSONField(
        _("default parameters"),
        default=dict,
        blank=True,
        validators=[bounds.validate_json_object],
        help_text=_("Of each report; a parameter with the same name replaces one of these."),
    )
    priority = models.SmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(bounds.MIN_PRIORITY), MaxValueValidator(bounds.MAX_PRIORITY)],
        help_text=_("-100 to 100, higher first. Used where the caller gives none."),
    )
    max_attempts = _number(_("attempts"), "max_attempts", help_text=_("Used where the caller gives none."))
    lease_seconds = _number(
        _("lease (seconds)"),
        "lease_seconds",
        help_text=_("How long its run may be silent. Used where the run's job gives none."),
    )
    route = models.CharField(
        max_length=bounds.MAX_ROUTE_LENGTH,
        default=DEFAULT_ROUTE,
        validators=[validate_route],
        help_text=_("Which consumers get its reports. Used where the caller gives none."),
    )
    max_running = _number(
        _("at most under way"), "max_running", help_text=_("Of this report, claimed, launched or running at once.")
    )
    max_running_per_modifier = _number(
        _("at most under way for each modifier"), "max_running_per_modifier", help_text=_("The same, of one modifier.")
    )
    rate_limit = _number(_("starts"), "rate_limit", help_text=_("At most so many in any period."))
    rate_period_seconds = _number(_("in a period of (seconds)"), "rate_period_seconds")
    expires_after_seconds = _number(
        _("expires after (seconds)"),
        "expires_after_seconds",
        help_text=_("A report that has not started so long after it was due is skipped."),
    )
    deadline_seconds = _number(
        _("deadline (seconds)"),
        "deadline_seconds",
        help_text=_("A report that has not succeeded so long after it was due is late."),
    )
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    updated_at = models.DateTimeField(auto_now=True, editable=False)

    objects = ReportQuerySet.as_manager()

    class Meta:
        verbose_name = _("report")
        db_table = "reportqueue_catalogue"  # the other name is that of an index
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"), name="reportqueue_catalogue_name", violation_error_message=NAME_TAKEN
            ),
            models.CheckConstraint(
                name="reportqueue_catalogue_numbers",
                condition=Q(report_id__gte=0)
                & (Q(priority=None) | Q(priority__range=(bounds.MIN_PRIORITY, bounds.MAX_PRIORITY)))
                & _bounded(*NUMBERS),
            ),
            models.CheckConstraint(
                name="reportqueue_catalogue_rate",
                condition=Q(rate_limit=None, rate_period_seconds=None)
                | Q(rate_limit__isnull=False, rate_period_seconds__isnull=False),
                violation_error_message=RATE_NEEDS_BOTH,
            ),
            models.CheckConstraint(
                name="reportqueue_catalogue_route",
                condition=Q(route__regex=rf"^{ROUTE.pattern}$"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.report_id})"

    @property
    def version(self) -> str:
        """What If-Match compares. It changes with every edit, whoever makes it: it is a digest of the columns."""
        columns = {field.attname: getattr(self, field.attname) for field in self._meta.concrete_fields}
        return hashlib.sha256(json.dumps(columns, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def clean(self) -> None:
        """Refuse an entry that contradicts itself, naming the field."""
        problems: dict[str, Any] = {}
        if self.default_params is None:
            self.default_params = {}  # an emptied form field
        if (self.rate_limit is None) != (self.rate_period_seconds is None):
            problems["rate_limit" if self.rate_limit is None else "rate_period_seconds"] = RATE_NEEDS_BOTH
        try:
            bounds.validate_json_object(self.default_params)  # Django skips a field's validators for an empty list
            problems |= self._schema_problems()
        except ValidationError as error:
            problems["default_params"] = error.messages
        if problems:
            raise ValidationError(problems)

    def _schema_problems(self) -> dict[str, Any]:
        """What is no schema, though Django takes it for empty, and what of the defaults can fit no parameters."""
        if self.params_schema is None:
            return {}
        try:
            params_schema.validate(self.params_schema)
        except ValidationError as error:
            # The field says so itself, but for a list, a text or an object that is empty.
            return {} if self.params_schema not in EMPTY_VALUES else {"params_schema": error.messages}
        # Parameters that are missing may come with each row.
        found = params_schema.problems(self.params_schema, self.default_params, root="default_params", partial=True)
        return {"default_params": found} if found else {}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate and save; waiting claims look again, since a limit may have gone.

        Raises `ValidationError` naming the field, whether or not the caller uses `full_clean`; `ReportNotFound` for an
        entry that was deleted since it was read: it stays deleted.
        """
        self.full_clean(validate_constraints=False)
        if Report.objects.called(self.name).exclude(pk=self.pk).exists():
            raise ValidationError({"name": NAME_TAKEN})
        if not self._state.adding and not kwargs.get("force_insert"):
            kwargs["force_update"] = True
        try:
            with database.atomic():
                super().save(*args, **kwargs)
                notices.notify(notices.ROWS)
        except IntegrityError as error:  # somebody else has taken the name or the number since
            field = "name" if "reportqueue_catalogue_name" in str(error) else "report_id"
            raise ValidationError({field: NAME_TAKEN if field == "name" else NUMBER_TAKEN}) from error
        except DatabaseError as error:
            if error.__cause__ is None:  # Django's own: no row was updated
                raise ReportNotFound(f"The catalogue has no report {self.pk}: it was deleted meanwhile.") from error
            raise

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete as Django does. Rows, schedules and sources of the report stay, without its limits."""
        with database.atomic():
            deleted = super().delete(*args, **kwargs)
            notices.notify(notices.ROWS)
        return deleted
