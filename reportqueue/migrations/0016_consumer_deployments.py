"""A consumer that claims from two deployments of Dagster is noticed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0001_squashed_0015_lists"),
    ]

    operations = [
        migrations.AddField(
            model_name="reportconsumer",
            name="api_user",
            field=models.CharField(db_default="", default="", editable=False, max_length=255),
        ),
        migrations.AddField(
            model_name="reportconsumer",
            name="deployment",
            field=models.CharField(db_default="", default="", editable=False, max_length=100),
        ),
        migrations.AddField(
            model_name="reportconsumer",
            name="other_deployment",
            field=models.CharField(db_default="", default="", editable=False, max_length=100),
        ),
        migrations.AddField(
            model_name="reportconsumer",
            name="other_seen_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
