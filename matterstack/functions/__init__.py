"""Python functions as tasks: their source, their values, and the workflows and campaigns they stand in."""
