"""API tokens: several for each user, stored as hashes."""

import django.db.models.deletion
import reportqueue.bounds
import reportqueue.clock
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0012_owners"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="Where it is used, for instance the host or the program.",
                        max_length=100,
                        validators=[reportqueue.bounds.validate_text],
                    ),
                ),
                ("identifier", models.CharField(editable=False, max_length=12, unique=True)),
                ("digest", models.CharField(editable=False, max_length=64)),
                (
                    "scopes",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Which of its user's permissions it may use. Empty: all of them.",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="created"
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Empty: never.",
                        null=True,
                        validators=[reportqueue.bounds.validate_instant],
                        verbose_name="expires",
                    ),
                ),
                ("revoked_at", models.DateTimeField(editable=False, null=True, verbose_name="revoked")),
                (
                    "last_used_at",
                    models.DateTimeField(
                        editable=False, help_text="Written at most once a minute.", null=True, verbose_name="last used"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reportqueue_tokens",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "API token",
                "ordering": ["-pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("digest__regex", "^[0-9a-f]{64}$")), name="reportqueue_token_digest"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_at", None), ("expires_at__gt", models.F("created_at")), _connector="OR"
                        ),
                        name="reportqueue_token_expires_later",
                    ),
                ],
            },
        ),
    ]
