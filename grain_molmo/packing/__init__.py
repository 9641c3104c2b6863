"""Which examples share a row."""
