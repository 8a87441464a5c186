"""What commands print: tables, progress and durations."""
