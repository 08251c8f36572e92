from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('commands', '0010_retention'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='command',
            options={'ordering': ('-id',), 'permissions': [('read_own_command', 'Can read own commands'), ('submit_command', 'Can submit commands'), ('cancel_own_command', 'Can cancel own commands'), ('submit_step', 'Can submit steps by themselves'), ('search_own_archive', 'Can search own results in the archive'), ('cancel_command', 'Can cancel the commands of anybody'), ('retry_command', 'Can retry the commands of anybody'), ('requeue_command', 'Can requeue the commands of anybody')]},
        ),
        migrations.AddIndex(
            model_name='command',
            index=models.Index(condition=models.Q(('status__in', ['failed', 'cancelled'])), fields=['status', '-id'], name='command_ended_badly'),
        ),
        migrations.AddIndex(
            model_name='command',
            index=models.Index(condition=models.Q(('error_code', ''), _negated=True), fields=['error_code', '-id'], name='command_with_error'),
        ),
        migrations.AddIndex(
            model_name='command',
            index=models.Index(condition=models.Q(('mode', 'normal'), _negated=True), fields=['mode', '-id'], name='command_of_rare_mode'),
        ),
        migrations.AddIndex(
            model_name='command',
            index=models.Index(condition=models.Q(('priority', 'normal'), _negated=True), fields=['priority', '-id'], name='command_of_rare_priority'),
        ),
    ]
