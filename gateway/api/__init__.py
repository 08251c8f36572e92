"""The common ground of the API: errors, strict input, pagination, the schema. Knows no app."""
