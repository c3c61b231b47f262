"""What is kept: the run directory, its lock, and its database."""
