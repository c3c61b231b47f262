"""Commands as jobs of somebody else: Slurm here or behind ssh, Dask; scripts, claims and exit codes."""
