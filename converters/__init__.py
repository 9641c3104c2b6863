"""From hub rows, folders and our own generator to the store."""
