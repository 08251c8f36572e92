"""For how long what is kept: a rule for each thing and each way in which a command ends. Administrators change them."""

import django.core.validators
from django.conf import settings
from django.db import migrations, models

# None: for as long as the command.
DAYS = {
    ("commands", "completed"): 365,
    ("commands", "failed"): 180,
    ("commands", "cancelled"): 180,
    ("events", "completed"): 90,
    ("events", "failed"): 90,
    ("events", "cancelled"): 90,
    ("stage_runs", "completed"): 90,
    ("stage_runs", "failed"): 90,
    ("stage_runs", "cancelled"): 90,
    ("files", "completed"): None,
    ("files", "failed"): None,
    ("files", "cancelled"): None,
}


def make_rules(apps, schema_editor):
    rule = apps.get_model("commands", "RetentionRule")
    rule.objects.bulk_create(rule(what=what, status=status, keep_days=days) for (what, status), days in DAYS.items())

class Migration(migrations.Migration):

    dependencies = [
        ('commands', '0009_event_partitions'),
        ('files', '0003_deletedcontent'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RetentionRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('commands', 'commands and all that belongs to them'), ('events', 'events'), ('stage_runs', 'tries of stages'), ('files', 'files')], max_length=10, verbose_name='what')),
                ('status', models.CharField(choices=[('queued', 'queued'), ('segmenting', 'being split into tasks'), ('running', 'running'), ('archiving', 'being archived'), ('cancelling', 'being cancelled'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled')], max_length=10, verbose_name='of commands that are')),
                ('keep_days', models.PositiveIntegerField(blank=True, help_text='From the end of the command. Empty: for as long as the command, and commands for ever.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(36500)], verbose_name='kept for days')),
                ('done_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='done up to')),
                ('done_id', models.UUIDField(blank=True, editable=False, null=True)),
                ('deleted', models.PositiveBigIntegerField(default=0, editable=False, verbose_name='deleted so far')),
            ],
            options={
                'verbose_name': 'retention rule',
                'verbose_name_plural': 'retention rules',
                'default_permissions': ('view', 'change'),
            },
        ),
        migrations.RemoveIndex(
            model_name='command',
            name='step_to_delete',
        ),
        migrations.AddIndex(
            model_name='command',
            index=models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['finished_at'], name='command_ended'),
        ),
        migrations.AddConstraint(
            model_name='retentionrule',
            constraint=models.UniqueConstraint(fields=('what', 'status'), name='retention_rule_unique'),
        ),
        migrations.AddConstraint(
            model_name='retentionrule',
            constraint=models.CheckConstraint(condition=models.Q(('keep_days', None), models.Q(('keep_days__gte', 1), ('keep_days__lte', 36500)), _connector='OR'), name='retention_rule_days_within_bounds'),
        ),
        migrations.RunPython(make_rules, migrations.RunPython.noop),
    ]
