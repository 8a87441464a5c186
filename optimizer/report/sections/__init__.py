"""The sections of the report, one file each: from the facts of a run to the content of a template."""
