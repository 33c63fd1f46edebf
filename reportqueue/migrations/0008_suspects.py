"""Reports whose runs end with them: which of several was in hand, which go on alone, and how often one was given back."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0007_timing_set_at")]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="alone",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A run ended without an end of this report: its next run makes no other report beside it.",
            ),
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="releases",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="How often a run began the report and gave it back; counted afresh by a requeue.",
            ),
        ),
        migrations.AddIndex(
            model_name="reportattempt",
            index=models.Index(
                fields=["run_id"], name="reportqueue_attempt_cut_off", condition=Q(outcome__in=["", "expired"])
            ),
        ),
    ]
