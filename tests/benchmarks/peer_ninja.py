"""The same workload by ninja, two at once: ``peer_ninja.py layers|chain N``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

kind, count = sys.argv[1], int(sys.argv[2])
lines = ["rule true", "  command = /bin/true"]
if kind == "chain":
    lines += [f"build t{n}: true {f't{n - 1}' if n else ''}" for n in range(count)]
else:
    width = count // 10
    for layer in range(10):
        for n in range(width):
            above = f"t{layer - 1}.{n} t{layer - 1}.{(n + 1) % width}" if layer else ""
            lines.append(f"build t{layer}.{n}: true {above}")
Path("build.ninja").write_text("\n".join(lines) + "\n")
done = subprocess.run([str(Path(sys.executable).parent / "ninja"), "-j2"], check=True, capture_output=True, text=True)
assert f"[{count}/{count}]" in done.stdout, done.stdout[-200:]
