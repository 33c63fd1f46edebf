"""What every claim asks: only the index of leases can answer for what has expired, and that of consumers knows statuses."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0005_trigger_periods")]

    operations = [
        migrations.RemoveIndex(model_name="reportqueue", name="reportqueue_lease"),
        migrations.RemoveIndex(model_name="reportqueue", name="reportqueue_held"),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                "lease_expires_at", condition=Q(("lease_expires_at__isnull", False)), name="reportqueue_lease"
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                "claimed_by",
                "status",
                condition=Q(("status__in", ["claimed", "dispatched", "running"])),
                name="reportqueue_held",
            ),
        ),
    ]
