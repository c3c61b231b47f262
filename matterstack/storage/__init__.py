"""The run directory, its lock, and its database."""
