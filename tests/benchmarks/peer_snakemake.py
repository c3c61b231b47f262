"""The same workload by Snakemake, two cores: ``peer_snakemake.py layers|chain N``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

kind, count = sys.argv[1], int(sys.argv[2])
rules = []
if kind == "chain":
    names = [(f"t{n}", [f"t{n - 1}"] if n else []) for n in range(count)]
else:
    width = count // 10
    names = [
        (f"t{layer}.{n}", [f"t{layer - 1}.{n}", f"t{layer - 1}.{(n + 1) % width}"] if layer else [])
        for layer in range(10)
        for n in range(width)
    ]
rules.append(f"rule all:\n    input: {[name for name, _ in names]!r}\n")
for number, (name, above) in enumerate(names):
    rules.append(f"rule r{number}:\n    input: {above!r}\n    output: touch({name!r})\n    shell: '/bin/true'\n")
Path("Snakefile").write_text("\n".join(rules))
snakemake = Path(sys.executable).parent / "snakemake"
subprocess.run([str(snakemake), "--cores", "2", "--quiet", "all"], check=True, capture_output=True)
assert all(Path(name).exists() for name, _ in names)
