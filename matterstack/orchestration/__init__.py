"""The making of ticks, and all that one may ask of or do to a run."""
