"""A simulated diffractometer: a process that serves requests for experiments in a directory.

``python instrument.py DIRECTORY [--mood MOOD] [--count N]`` serves N requests below DIRECTORY and ends. It replays
measured lattice constants (those ASE lists in ``ase.data``, from Ashcroft and Mermin, Solid State Physics, 1976) as
the positions of powder lines by Bragg's law.

Moods: good; silent (begins, and shows no sign of life); wrong (sends two results that violate the schema before a
right one); liar (gives a wrong hash first); failing (reports a failure); patient (waits to be asked to abort); late
(sends its file after the result).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import select
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers, reference_states

WAVELENGTH_A = 1.5406  # copper K-alpha 1
LINES = {"fcc": [(1, 1, 1), (2, 0, 0), (2, 2, 0)], "bcc": [(1, 1, 0), (2, 0, 0), (2, 1, 1)]}


def pause(seconds: float = 0.02) -> None:
    select.poll().poll(seconds * 1000)


def write(path: Path, value: Any) -> None:
    """Write a file whole, as the protocol asks."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value))
    partial.rename(path)


def claim(directory: Path) -> bool:
    """Take a request up, unless that was done before or it was withdrawn."""
    try:
        file = os.open(directory / "experiment_ack.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    os.write(file, json.dumps({"instrument": "diffractometer", "pid": os.getpid()}).encode())
    os.close(file)
    return True


def measure(symbol: str) -> dict[str, Any]:
    state = reference_states[atomic_numbers[symbol]]
    two_theta = [
        2 * math.degrees(math.asin(WAVELENGTH_A * math.sqrt(h * h + k * k + m * m) / (2 * state["a"])))
        for h, k, m in LINES[state["symmetry"]]
    ]
    return {"symbol": symbol, "lattice_constant_A": state["a"], "two_theta_deg": two_theta}


def serve(directory: Path, request: dict[str, Any], mood: str) -> None:
    token = request["token"]
    result = directory / "experiment_result.json"
    with open(directory.parents[2] / "instrument.ledger", "a") as ledger:
        ledger.write(f"begin {token}\n")
    if mood == "silent":
        return
    for beat in range(3) if mood != "patient" else itertools.count():
        write(directory / "experiment_heartbeat.json", {"token": token, "beat": beat})
        if (directory / "experiment_abort.json").exists():
            write(result, {"token": token, "status": "ABORTED", "reason": "asked to stop"})
            return
        pause()
    if mood == "failing":
        write(result, {"token": token, "status": "FAILED", "reason": "no sample in the holder"})
        return
    data = measure(request["parameters"]["symbol"])
    lines = "two_theta_deg\n" + "".join(f"{angle:.4f}\n" for angle in data["two_theta_deg"])
    good = {
        "token": token,
        "status": "COMPLETED",
        "data": data,
        "files": [{"path": "pattern.csv", "sha256": hashlib.sha256(lines.encode()).hexdigest()}],
    }
    if mood == "wrong":
        for number, bad in enumerate([{**good, "data": {}}, {**good, "token": "ms-another"}], 1):
            write(result, bad)
            while not (directory / f".matterstack/rejected/{number}.reason.json").exists():
                pause()
    if mood == "liar":
        (directory / "pattern.csv").write_text("something else")
        write(result, good)
        pause(0.3)
    if mood != "late":
        (directory / "pattern.csv").write_text(lines)
    write(result, good)
    if mood == "late":
        pause(0.3)
        (directory / "pattern.csv").write_text(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--mood", default="good")
    parser.add_argument("--count", type=int, default=1)
    given = parser.parse_args()
    print("looks for requests", flush=True)
    served = 0
    while served < given.count:
        for path in sorted(given.directory.glob("[0-9]*/experiment_request.json")):
            if claim(path.parent):
                serve(path.parent, json.loads(path.read_text()), given.mood)
                served += 1
        pause()


if __name__ == "__main__":
    main()
