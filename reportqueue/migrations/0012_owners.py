"""To which API user a row was handed out, and whose idempotency key is whose."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0011_consumers")]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="api_user",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="The key of the API user who claimed or started it; empty: code of this project did.",
                max_length=255,
            ),
        ),
        migrations.RemoveIndex(model_name="reportqueue", name="reportqueue_held"),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                "claimed_by",
                "api_user",
                "status",
                condition=Q(("status__in", ["claimed", "dispatched", "running"])),
                name="reportqueue_held",
            ),
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="idempotency_scope",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="Whose key it is: an API user's, a webhook source's; empty: that of this project's code.",
                max_length=300,
            ),
        ),
        migrations.RemoveConstraint(model_name="reportqueue", name="reportqueue_idempotency_key"),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.UniqueConstraint(
                fields=("idempotency_key", "idempotency_scope"), name="reportqueue_idempotency_key"
            ),
        ),
    ]
