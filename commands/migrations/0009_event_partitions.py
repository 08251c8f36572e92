"""Events are known by command and number alone; on PostgreSQL their table is partitioned by months.

A command's id tells when it was made (UUIDv7), so a month is a range of ids. Existing rows move into the partitions of
their months, in one transaction: nobody can write events meanwhile. Going back moves them into one plain table again.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import django.db.models.deletion
from django.db import migrations, models

OLD, NEW = "commands_commandevent_old", "commands_commandevent"
COLUMNS = "command_id, seq, event, status, stage, progress, data, at, broadcast_at"
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # an id that tells of another time was made in another way


def partition(apps, schema_editor):
    _set_aside(schema_editor)
    model = apps.get_model("commands", "CommandEvent")
    if schema_editor.connection.vendor == "postgresql":
        sql, _params = schema_editor.table_sql(model)
        schema_editor.execute(f"{sql} PARTITION BY RANGE (command_id)")
        schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))
        _make_months(schema_editor)
    else:
        schema_editor.create_model(model)
    _move_rows(schema_editor)


def one_table(apps, schema_editor):
    _set_aside(schema_editor)
    schema_editor.create_model(apps.get_model("commands", "CommandEvent"))
    _move_rows(schema_editor)


def _set_aside(schema_editor):
    schema_editor.execute("DROP INDEX event_to_broadcast")
    schema_editor.execute(f"ALTER TABLE {NEW} RENAME TO {OLD}")
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER INDEX {NEW}_pkey RENAME TO {OLD}_pkey")


def _make_months(schema_editor):
    """Make a partition for each month that has rows, and one for what belongs to none."""
    schema_editor.execute(f"CREATE TABLE {NEW}_default PARTITION OF {NEW} DEFAULT")
    first, last = _found(schema_editor, "ASC"), _found(schema_editor, "DESC")
    month = first and first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while first and month <= last:
        following = (month + timedelta(days=32)).replace(day=1)
        schema_editor.execute(
            f"CREATE TABLE {NEW}_{month:%Y_%m} PARTITION OF {NEW} "
            f"FOR VALUES FROM ('{_first_id_at(month)}') TO ('{_first_id_at(following)}')"
        )
        month = following


def _found(schema_editor, order):
    """Return when the first or the last command was made that has events."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT command_id FROM {OLD} WHERE command_id BETWEEN %s AND %s ORDER BY command_id {order} LIMIT 1",
            [_first_id_at(EARLIEST), _first_id_at(datetime.now(UTC))],
        )
        row = cursor.fetchone()
    return row and datetime.fromtimestamp((row[0].int >> 80) / 1000, UTC)


def _first_id_at(moment):
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _move_rows(schema_editor):
    schema_editor.execute(f"INSERT INTO {NEW} ({COLUMNS}) SELECT {COLUMNS} FROM {OLD}")
    schema_editor.execute(f"DROP TABLE {OLD}")


class Migration(migrations.Migration):
    dependencies = [("commands", "0008_acts")]
    operations = [
        # Around the change of the models: going back needs the one before it, going on the one after.
        migrations.RunPython(migrations.RunPython.noop, one_table),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel(name="CommandEvent"),
                migrations.CreateModel(
                    name="CommandEvent",
                    fields=[
                        ("pk", models.CompositePrimaryKey("command_id", "seq", blank=True, editable=False, primary_key=True, serialize=False)),
                        ("seq", models.PositiveIntegerField()),
                        ("event", models.CharField(max_length=30)),
                        ("status", models.CharField(choices=[("queued", "queued"), ("segmenting", "being split into tasks"), ("running", "running"), ("archiving", "being archived"), ("cancelling", "being cancelled"), ("completed", "completed"), ("failed", "failed"), ("cancelled", "cancelled")], max_length=10)),
                        ("stage", models.CharField(blank=True, choices=[("segmentation", "segmentation"), ("runner", "runner"), ("archive", "archive")], max_length=12, null=True)),
                        ("progress", models.PositiveSmallIntegerField()),
                        ("data", models.JSONField(blank=True, default=dict)),
                        ("at", models.DateTimeField(auto_now_add=True)),
                        ("broadcast_at", models.DateTimeField(blank=True, null=True)),
                        ("command", models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="events", to="commands.command")),
                    ],
                    options={
                        "ordering": ("command", "seq"),
                        "indexes": [models.Index(condition=models.Q(("broadcast_at__isnull", True)), fields=["at"], name="event_to_broadcast")],
                    },
                ),
            ]
        ),
        migrations.RunPython(partition, migrations.RunPython.noop),
    ]
