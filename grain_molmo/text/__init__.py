"""From annotations to token arrays."""
