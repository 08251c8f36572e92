"""The index of the search, on PostgreSQL. It is built while people work; started again, it begins anew.

One index for all filters together: it goes along the one that lets least through. It holds only what has ended. Then a
row changes no more, so each command is put into it once, by a worker, and to send one costs nothing. What waits to be
put in, and has to be read through by each search, is kept short (in kB).
"""

from django.db import migrations

# The text as commands.search.Folded has it.
INDEX = """
CREATE INDEX CONCURRENTLY command_search ON commands_command USING gin (
    user_id,
    (LOWER(TRANSLATE(text, 'İIıÇçĞğÖöŞşÜü', 'iiiccggoossuu'))) gin_trgm_ops,
    tags jsonb_path_ops,
    status,
    mode,
    persona
) WITH (gin_pending_list_limit = 512) WHERE finished_at IS NOT NULL
"""


def create_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        drop_index(apps, schema_editor)  # what a start that was broken off has left
        schema_editor.execute(INDEX, params=None)


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX CONCURRENTLY IF EXISTS command_search", params=None)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("commands", "0011_administration")]
    operations = [migrations.RunPython(create_index, drop_index)]
