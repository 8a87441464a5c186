"""What merge methods are built from: the declaration, plan records and shared helpers."""
