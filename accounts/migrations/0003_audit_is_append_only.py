"""The database itself refuses to change what the audit record says.

On SQLite only changes, not deletion: there, Django's test runner empties tables row by row.
"""

from django.db import migrations

POSTGRESQL = """
CREATE FUNCTION accounts_auditentry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit record is append-only'; END $$;
CREATE TRIGGER accounts_auditentry_append_only BEFORE UPDATE OR DELETE ON accounts_auditentry
FOR EACH ROW EXECUTE FUNCTION accounts_auditentry_refuse();
"""
SQLITE = """
CREATE TRIGGER accounts_auditentry_append_only BEFORE UPDATE ON accounts_auditentry
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
"""
REVERSE = {
    "postgresql": "DROP TRIGGER accounts_auditentry_append_only ON accounts_auditentry; "
    "DROP FUNCTION accounts_auditentry_refuse();",
    "sqlite": "DROP TRIGGER accounts_auditentry_append_only;",
}


def refuse(apps, schema_editor):
    schema_editor.execute({"postgresql": POSTGRESQL, "sqlite": SQLITE}[schema_editor.connection.vendor], params=None)


def allow(apps, schema_editor):
    schema_editor.execute(REVERSE[schema_editor.connection.vendor], params=None)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_roles_and_credentials")]
    operations = [migrations.RunPython(refuse, allow)]
