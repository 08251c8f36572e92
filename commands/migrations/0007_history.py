"""What the history is searched and counted by.

The search needs two extensions that come with PostgreSQL. The owner of a database may create them; where the gateway is
not the owner, somebody who may does so before (docs/deployment.md).
"""

from datetime import UTC, datetime

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def create_extensions(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name in ("pg_trgm", "btree_gin"):
            schema_editor.execute(f"CREATE EXTENSION IF NOT EXISTS {name}", params=None)


def nothing_is_counted_yet(apps, schema_editor):
    apps.get_model("commands", "RollupMark").objects.create(id=1, until=datetime(2000, 1, 1, tzinfo=UTC))


class Migration(migrations.Migration):

    dependencies = [
        ('commands', '0006_queue'),
        ('files', '0002_alter_storedfile_options'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(create_extensions, migrations.RunPython.noop),
        migrations.CreateModel(
            name='CommandRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('mode', models.CharField(choices=[('normal', 'normal'), ('dream', 'dream'), ('explore', 'explore'), ('chaos', 'chaos')], max_length=10)),
                ('status', models.CharField(choices=[('queued', 'queued'), ('segmenting', 'being split into tasks'), ('running', 'running'), ('archiving', 'being archived'), ('cancelling', 'being cancelled'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled')], max_length=10)),
                ('error_code', models.CharField(blank=True, max_length=50)),
                ('number', models.PositiveIntegerField()),
                ('took_sum', models.DurationField()),
                ('took_max', models.DurationField()),
                ('within_200ms', models.PositiveIntegerField()),
                ('within_500ms', models.PositiveIntegerField()),
                ('within_1s', models.PositiveIntegerField()),
                ('within_2s', models.PositiveIntegerField()),
                ('within_5s', models.PositiveIntegerField()),
                ('within_10s', models.PositiveIntegerField()),
                ('within_30s', models.PositiveIntegerField()),
                ('within_1m', models.PositiveIntegerField()),
                ('within_5m', models.PositiveIntegerField()),
                ('within_1h', models.PositiveIntegerField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='RollupMark',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('until', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AddField(
            model_name='commandrollup',
            name='user',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='commandrollup',
            index=models.Index(fields=['hour'], name='rollup_of_all'),
        ),
        migrations.AddConstraint(
            model_name='commandrollup',
            constraint=models.UniqueConstraint(fields=('user', 'hour', 'mode', 'status', 'error_code'), name='rollup_unique'),
        ),
        migrations.RunPython(nothing_is_counted_yet, migrations.RunPython.noop),
    ]
