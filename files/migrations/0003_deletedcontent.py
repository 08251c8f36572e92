from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('files', '0002_alter_storedfile_options'),
    ]

    operations = [
        migrations.CreateModel(
            name='DeletedContent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('content', models.CharField(max_length=255)),
            ],
            options={
                'default_permissions': (),
            },
        ),
    ]
