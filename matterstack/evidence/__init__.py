"""Evidence of a run: checked against its record, and put together for somebody who has never seen it."""
