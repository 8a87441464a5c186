"""The start of a search: a commented search.yaml, its JSON schema, and the import of other tools' configurations."""
