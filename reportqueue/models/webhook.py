"""Webhook sources: other systems whose signed deliveries are enqueued."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.clock import ClockTimestamp
from reportqueue.payloads import validate_path
from reportqueue.webhook_secrets import SEED_LENGTH, new_seed

MAX_PARAMS = 50


class WebhookSource(models.Model):
    """One sender: which report its deliveries enqueue, and which parts of their payload become parameters.

    The table holds no secret: it is derived from `seed` and the project's SECRET_KEY, so that a dump of the database
    alone reveals none. (The signature is an HMAC: a hash of the secret could not verify it.)
    """

    name = models.SlugField(max_length=50, unique=True, help_text=_("The last part of its address."))
    enabled = models.BooleanField(default=True)
    report_id = models.BigIntegerField(_("report"), validators=bounds.id_validators())
    modifier_id = models.BigIntegerField(
        _("modifier"), null=True, blank=True, validators=bounds.id_validators(), help_text=_("Of every delivery.")
    )
    modifier_path = models.CharField(
        max_length=200,
        blank=True,
        validators=[validate_path],
        help_text=_("Instead: where the payload holds the modifier, for instance data.customer.id"),
    )
    params_paths = models.JSONField(
        default=dict,
        blank=True,
        help_text=_('Parameters and where the payload holds them: {"order": "data.order.id"}; "$" is all of it.'),
    )
    priority = models.SmallIntegerField(
        default=0,
        validators=[MinValueValidator(bounds.MIN_PRIORITY), MaxValueValidator(bounds.MAX_PRIORITY)],
        help_text=_("-100 to 100, higher first."),
    )
    max_attempts = models.PositiveSmallIntegerField(
        default=bounds.DEFAULT_ATTEMPTS,
        validators=[MinValueValidator(bounds.MIN_ATTEMPTS), MaxValueValidator(bounds.MAX_ATTEMPTS)],
    )
    unique = models.BooleanField(
        _("only if it is not unfinished already"),
        default=False,
        db_default=False,
        help_text=_(
            "A delivery adds nothing while the same report with the same modifier and parameters is unfinished, "
            "whoever has queued it."
        ),
    )
    seed = models.CharField(max_length=SEED_LENGTH, default=new_seed, editable=False)
    previous_seed = models.CharField(max_length=SEED_LENGTH, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text=_("Until then, the secret before the last rotation is accepted too.")
    )
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)

    class Meta:
        verbose_name = _("webhook source")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="reportqueue_webhook_modifier",
                condition=(Q(modifier_id=None) & ~Q(modifier_path="")) | (Q(modifier_id__gte=0) & Q(modifier_path="")),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a source without a modifier or with two, and invalid paths."""
        problems: dict[str, Any] = {}
        if (self.modifier_id is None) == (not self.modifier_path):
            problems["modifier_id"] = "Give a modifier, or the path to it in the payload: one of the two."
        if self.params_paths is None:
            self.params_paths = {}  # an emptied form field
        paths = self.params_paths
        if (
            not isinstance(paths, dict)
            or len(paths) > MAX_PARAMS
            or not all(isinstance(p, str) for p in paths.values())
        ):
            problems["params_paths"] = f"Must be an object of at most {MAX_PARAMS} names and paths."
        else:
            for name, path in paths.items():
                try:
                    validate_path(path)
                except ValidationError as error:
                    problems["params_paths"] = [f"{name[:100]}: {message}" for message in error.messages]
            try:
                bounds.validate_json_object(paths)
            except ValidationError as error:
                problems["params_paths"] = error.messages
        if problems:
            raise ValidationError(problems)
