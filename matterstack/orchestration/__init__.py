"""What makes a run go: the tick, the lifecycle, and the object a user holds."""
