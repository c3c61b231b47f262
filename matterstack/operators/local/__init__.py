"""Commands on this machine: the operator, its link to the runner, and the runner, which outlives the kernel."""
