"""The package: see README.md."""
