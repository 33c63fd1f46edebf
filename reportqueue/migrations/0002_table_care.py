"""Storage settings for a table whose every row is updated four times or more, and whose dead rows every claim meets."""

from django.db import migrations

# fillfactor: a fifth of each page stays free, so that a row's next version finds room beside it.
# Autovacuum: by default it waits until a fifth of the table is dead, which with a million finished rows is 200,000
# dead entries in the small partial index that every claim walks. Here: 1,000 dead rows and 1 % of the table, without
# the pauses that suit large, quiet tables. Analyze likewise: the planner must know how few rows are queued.
SETTINGS = {
    "fillfactor": "80",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_analyze_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="ALTER TABLE reportqueue_reportqueue SET ({})".format(
                ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
            ),
            reverse_sql="ALTER TABLE reportqueue_reportqueue RESET ({})".format(", ".join(SETTINGS)),
        )
    ]
