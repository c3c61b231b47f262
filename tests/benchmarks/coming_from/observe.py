"""What one tool does with the campaign, as facts: run to its end, run again, killed in the middle and gone on with."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import signal
import subprocess
import time
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
HELD = "1.00"  # copper.HELD, which is not imported: it needs ASE
FAILURE = "No EMT-potential for Fe"
MOST_S = 120


@dataclass
class Campaign:
    """The campaign of one tool, in a directory of its own."""

    directory: Path
    command: list[str]
    again: Callable[[Path], list[str]] | None = None  # what goes on with it; by default the same command
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> Path:
        return self.directory / "calls.txt"

    @property
    def hold(self) -> Path:
        return self.directory / "hold"

    @property
    def place(self) -> Path:
        return self.directory / "campaign"

    def start(self, again: bool = False) -> subprocess.Popen[str]:
        """Start the driver."""
        self.place.mkdir(parents=True, exist_ok=True)
        command = self.again(self.place) if again and self.again else self.command
        given = {"CALLS": str(self.calls), "HOLD": str(self.hold)}
        with open(self.directory / "output.txt", "w") as output:
            return subprocess.Popen(
                command, cwd=self.place, env={**os.environ, **self.environment, **given}, stdout=output, stderr=output,
                text=True, start_new_session=True,
            )  # fmt: skip

    def finish(self, driver: subprocess.Popen[str]) -> int | None:
        """Return the exit code of the driver, or None where it had to be killed after MOST_S."""
        try:
            return driver.wait(MOST_S)
        except subprocess.TimeoutExpired:
            self.end_all()
            driver.wait()
            return None

    @property
    def output(self) -> str:
        return (self.directory / "output.txt").read_text()

    def noted(self, event: str) -> list[str]:
        """Return the calls that began, or ended, in order."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split()[1] for line in lines if line.split()[0] == event]

    def processes(self) -> list[int]:
        """Return the processes that the campaign has started and that are still there, by their environment."""
        wanted = f"CALLS={self.calls}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def end_all(self) -> None:
        """Kill what the campaign has left behind."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def fit(self) -> str | None:
        """Return how many members were fitted, and how they arrived, as the driver printed it."""
        text = re.sub(r"['\"]\s*\n\s*['\"]", "", self.output)  # redun breaks long text
        members, arrived = re.search(r"'members': (\d+)", text), re.search(r"'arrived': ['\"](.*?\])", text)
        return f"{members[1]} members: {arrived[1]}" if members and arrived else None


def wait_for(true: Callable[[], object], most_s: float = MOST_S) -> bool:
    """Return whether something became true."""
    until = time.monotonic() + most_s
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def settled(campaign: Campaign, quiet_s: float) -> bool:
    """Return whether nothing was noted for so long."""
    return time.time() - campaign.calls.stat().st_mtime > quiet_s


def lines_of_code(script: Path) -> int:
    """Return how many lines hold code: no blank ones, comments or docstrings."""
    source = script.read_text()
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


def files_of(place: Path) -> Iterator[tuple[Path, bytes]]:
    """Return what a campaign has left on disk; no bytecode of the scripts."""
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(place), path.read_bytes()


def is_text(content: bytes) -> bool:
    """Return whether a person can read it."""
    try:
        return b"\0" not in content and content.decode() is not None
    except UnicodeDecodeError:
        return False


def run_to_the_end(campaign: Campaign) -> dict[str, object]:
    """Run the campaign to its end, and the same command once more."""
    code = campaign.finish(campaign.start())
    facts: dict[str, object] = {"exit code": code, "members done": len(set(campaign.noted("end")) - {"fit"})}
    facts["fit"] = campaign.fit()
    facts["driver tells of the failure"] = FAILURE in campaign.output
    left = list(files_of(campaign.place))
    facts["files"] = len(left)
    once = {(campaign.place / path).stat().st_ino: len(content) for path, content in left}  # a file may have names
    facts["kB"] = round(sum(once.values()) / 1000)
    facts["names"] = sorted({path.parts[0] for path, _ in left})
    facts["text of the failure in"] = [str(path) for path, content in left if FAILURE.encode() in content]
    facts["energies as text in"] = [
        str(path) for path, content in left if is_text(content) and b"0.20507522521980" in content
    ]
    before = campaign.noted("begin")
    facts["exit code, again"] = campaign.finish(campaign.start(again=True))
    facts["begun again after the end"] = campaign.noted("begin")[len(before) :]
    return facts


def kill_and_go_on(campaign: Campaign, quiet_s: float = 5.0, most_alive_s: float = 150.0) -> dict[str, object]:
    """Kill the driver while a member is held up, let that go, and go on.

    What is left behind has time to leave by itself: Parsl's workers do so after 120 s without a heartbeat.
    """
    campaign.directory.mkdir(parents=True, exist_ok=True)
    campaign.hold.touch()
    driver = campaign.start()
    assert wait_for(lambda: HELD in campaign.noted("begin") and len(campaign.noted("end")) >= 2), campaign.output
    wait_for(lambda: settled(campaign, quiet_s))
    driver.kill()
    driver.wait()
    done, begun = set(campaign.noted("end")), campaign.noted("begin")
    facts: dict[str, object] = {"done before": sorted(done), "begun before": begun}
    campaign.hold.unlink()
    wait_for(lambda: not campaign.processes(), most_alive_s)
    facts["the member in flight ended"] = HELD in campaign.noted("end")
    facts["processes left"] = len(campaign.processes())
    facts["exit code, going on"] = campaign.finish(campaign.start(again=True))
    after = campaign.noted("begin")[len(begun) :]
    facts["done again"] = sorted(name for name in after if name in done)
    facts["member in flight begun again"] = HELD in after
    facts["begun after"] = after
    facts["fit"] = campaign.fit()
    return facts


def run_with_live_calculator(campaign: Campaign) -> dict[str, object]:
    """Run the campaign with members whose cells keep the EMT calculator that made them."""
    campaign.environment["LIVE"] = "1"
    code = campaign.finish(campaign.start())
    found = campaign.fit()
    texts = {"its output": campaign.output}
    texts |= {path.name: content.decode() for path, content in files_of(campaign.place) if is_text(content)}
    errors = [
        {"in": name, "line": line}
        for name, text in texts.items()
        for line in text.splitlines()
        if re.match(r"\w*(Error|Exception): ", line) and FAILURE not in line
    ]
    return {"exit code": code, "fit": found, "errors": errors[:1]}
