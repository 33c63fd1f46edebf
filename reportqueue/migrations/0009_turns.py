"""Turns: of a schedule without overlaps one unfinished row has its turn, the others wait, whatever becomes of either."""

from django.db import migrations, models
from django.db.models import F, Q

UNFINISHED = ["claimed", "dispatched", "queued", "running"]
# A row that waited for another goes on to wait. Of several that did not, the one that is furthest has its turn. A row
# whose schedule was deleted waits no more: nothing would have let it go.
LINE_UP = """
UPDATE reportqueue_reportqueue q
SET concurrency_key = place.schedule_id, waiting = place.number > 1
FROM (
    SELECT r.id, r.schedule_id, row_number() OVER (
        PARTITION BY r.schedule_id
        ORDER BY r.waits_for_id IS NOT NULL,
                 CASE r.status WHEN 'running' THEN 0 WHEN 'dispatched' THEN 1 WHEN 'claimed' THEN 1 ELSE 2 END,
                 r.priority DESC, r.available_at, r.id
    ) AS number
    FROM reportqueue_reportqueue r
    JOIN reportqueue_reportschedule s ON s.id = r.schedule_id
    WHERE r.status IN ('claimed', 'dispatched', 'queued', 'running') AND s.overlap <> 'allow'
) place
WHERE q.id = place.id
"""
# The words named a row; the pages name it by its turn now.
CLEAR = "UPDATE reportqueue_reportqueue SET error = '' WHERE waits_for_id IS NOT NULL"


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0008_suspects")]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="concurrency_key",
            field=models.BigIntegerField(
                null=True,
                editable=False,
                help_text="The id of the schedule whose reports take turns, also after the schedule is deleted; "
                "empty for a report that may overlap.",
            ),
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="waiting",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="Another report of its schedule is unfinished: neither handed out nor started before its turn.",
            ),
        ),
        migrations.RunSQL([LINE_UP, CLEAR], migrations.RunSQL.noop),
        # The rows' checks of foreign keys are due before the table can be altered.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RemoveIndex(model_name="reportqueue", name="reportqueue_claim_order"),
        migrations.RemoveIndex(model_name="reportqueue", name="reportqueue_waiting"),
        migrations.RemoveConstraint(model_name="reportqueue", name="reportqueue_only_queued_waits"),
        migrations.RemoveField(model_name="reportqueue", name="waits_for"),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                F("priority").desc(),
                "available_at",
                "id",
                name="reportqueue_claim_order",
                condition=Q(status="queued", waiting=False),
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index("concurrency_key", name="reportqueue_waiting", condition=Q(waiting=True)),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.UniqueConstraint(
                "concurrency_key",
                name="reportqueue_one_in_turn",
                condition=Q(concurrency_key__isnull=False, waiting=False, status__in=UNFINISHED),
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                name="reportqueue_only_unfinished_wait",
                condition=Q(waiting=False) | Q(concurrency_key__isnull=False, status__in=UNFINISHED),
            ),
        ),
    ]
