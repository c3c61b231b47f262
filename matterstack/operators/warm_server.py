"""The program of a warm server: it has imported what calls of functions need, and forks their processes.

    python warm_script.py    (its standard input is one end of a SOCK_SEQPACKET pair)

The other end is that of whoever watches attempts: the first packet says what to import, each further one asks for the
process of one attempt, with descriptors for its stdout, its stderr and a gate. A process is forked twice, so it
becomes a child of the nearest subreaper, which is the watcher. It does all that is ours, tells so, and waits at the
gate; nothing of the user's runs before a byte comes through, and without one it leaves. Then it runs ``task.py`` as
`python task.py` would. In any doubt the server or the process says why, and the watcher does just that.

Standard library of Python 3.9 only, and little of it: it is in each process that is forked.
"""

from __future__ import annotations

import sys

_AT_START = frozenset(sys.modules)  # what Python had imported before it looked beside the script
_HERE = "/dev/null/task"  # stands in sys.path for the directory of an attempt: nothing can be there
_IS_SAFE = bool(sys.flags.isolated or getattr(sys.flags, "safe_path", False))
if not _IS_SAFE:
    sys.path[0] = _HERE

import _imp  # noqa: E402
import atexit  # noqa: E402
import contextlib  # noqa: E402
import ctypes  # noqa: E402
import fcntl  # noqa: E402
import gc  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import stat  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec
    from importlib.machinery import SourceFileLoader as _Loader
    from types import CodeType, ModuleType, TracebackType
    from typing import Any, NoReturn

    Setter = tuple[Callable[[int], object], int]
else:
    _Loader = type(json.__loader__)  # of modules that are files
    ModuleSpec = type(json.__spec__)

_say_where: Callable[[CodeType, str], None] = vars(_imp)["_fix_co_filename"]  # as importlib does with what is compiled
_PROGRAM = "task.py"
#: What lies beside each task, and what it is a copy of; where a chunk runs, that is not there.
_SUPPORT = {"matterstack_main": "main.py", "matterstack_values": "codec.py"}
_BESIDE = frozenset(f"./{name}.py" for name in _SUPPORT)
_CODEC = "matterstack_values"
#: By each call, for the hashes of what it leaves.
_USED: list[tuple[str, list[str]]] = [("_sha2", []), ("_sha256", [])]
_MOST_TASKS = 64
_MOST_TEXT = 1 << 20  # bytes of one that is compiled
_ROOM = b"MATTERSTACK_ROOM="
#: One thread each while it imports: pools do not outlive a fork.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_MOST_SAID = 1 << 20  # bytes that importing may print
_MOST_NUMEXPR = 16  # threads that it takes where nothing is said
_LOOK_EVERY_S = 1.0
_PACKET = 1 << 20


class Doubt(Exception):  # noqa: N818 - it is no error: what follows is the same result
    """Why an attempt has to begin cold."""


# -- importing -------------------------------------------------------------------------------------


def load(wanted: Iterable[tuple[str, list[str]]]) -> None:
    """Import modules with names in them; what is not installed is left to the attempts, which say so."""
    for module, names in wanted:
        try:
            __import__(module, {}, {}, names, 0)
        except ModuleNotFoundError as missing:
            if not f"{module}.".startswith(f"{missing.name}."):
                raise Doubt(f"importing {module}: {missing}") from None
        except BaseException as error:  # noqa: BLE001 - code of others
            raise Doubt(f"importing {module}: {type(error).__name__}: {error!s:.500}") from None


def check_alone(before: frozenset[str]) -> None:
    """Raise `Doubt` where what was imported has left something that a fork would break, or share."""
    tasks = os.listdir("/proc/self/task")
    if len(tasks) > 1:
        names = {_line(f"/proc/self/task/{task}/comm") for task in tasks if task != str(os.getpid())}
        raise Doubt(f"what it imports has started {len(tasks) - 1} more threads ({', '.join(sorted(names))})")
    if any(_line(f"/proc/self/task/{task}/children") for task in tasks):
        raise Doubt("what it imports has started a process")
    for number in sorted(_descriptors() - before):
        with contextlib.suppress(OSError):  # a file's place in it would be shared; and CUDA is a device
            place = os.readlink(f"/proc/self/fd/{number}")
            if place not in ("/dev/null", "/dev/urandom", "/dev/random"):
                raise Doubt(f"what it imports keeps {place} open")


def _descriptors() -> frozenset[str]:
    listed = os.listdir("/proc/self/fd")  # also the one by which it is listed, which is gone by now
    return frozenset(number for number in listed if os.path.lexists(f"/proc/self/fd/{number}"))


def _line(path: str) -> str:
    with contextlib.suppress(OSError), open(path) as file:
        return file.read().strip()
    return ""


def said() -> tuple[bytes, bytes]:
    """Return what importing has printed: each attempt prints it anew, as it would have by itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    texts = []
    for number in (1, 2):
        if not stat.S_ISREG(os.fstat(number).st_mode):  # a launcher has put something of its own there
            raise Doubt("what starts its Python does not leave it stdout and stderr")
        texts.append(os.pread(number, _MOST_SAID, 0))
    if max(map(len, texts)) == _MOST_SAID:
        raise Doubt("what it imports prints much")
    return texts[0], texts[1]


class Files:
    """The files that were imported, as they were then."""

    def __init__(self, since: float) -> None:
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self._stamps = {path: self._stamp(path) for path in files if isinstance(path, str)}
        for path, stamp in self._stamps.items():
            if stamp is not None and since <= stamp[0] / 1e9 <= time.time():
                raise Doubt(f"{path} has changed while it was imported")
        # What is installed, or removed, changes the folder; what is compiled for the first time does so, too.
        folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        self._stamps.update((path, self._stamp(path)) for path in folders)
        self._looked_at = time.monotonic()

    @staticmethod
    def _stamp(path: str) -> tuple[int, int, int] | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def changed(self) -> str | None:
        """Return one that is another one now; looks once a second at most."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return None
        self._looked_at = time.monotonic()
        return next((path for path, stamp in self._stamps.items() if self._stamp(path) != stamp), None)


# -- threads ---------------------------------------------------------------------------------------


def set_threads() -> None:
    """Give each library that was loaded as many threads as a process of its own would have; none is started now."""
    for path in sorted(_mapped()):
        name = os.path.basename(path)
        for words, symbols, count in _LIBRARIES:
            if any(word in name for word in words):
                _call(path, symbols, count())
    # OpenBLAS starts them at once, ends them before a fork, and starts them again in a process that computes.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def pools() -> list[Setter]:
    """Return what sets the threads of packages that start them at once, and how many: for each process to call."""
    found: list[Setter] = []
    torch = sys.modules.get("torch")
    if torch is not None:
        number = _threads(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), _cores())
        if torch.get_num_threads() != number:  # it asks those that were set before, unless it has asked already
            found.append((torch.set_num_threads, number))
    numexpr = sys.modules.get("numexpr")
    if numexpr is not None:
        most = min(numexpr.MAX_THREADS, _MOST_NUMEXPR, _processors())
        found.append((numexpr.set_num_threads, _threads(("NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS"), most)))
    return found


def _mapped() -> set[str]:
    with open("/proc/self/maps") as file:
        return {line.split(None, 5)[5].strip() for line in file if line.count("/") > 1 and ".so" in line}


def _call(path: str, symbols: Iterable[str], number: int) -> None:
    """Call the first function that a library has of some, with a number."""
    with contextlib.suppress(OSError):
        library = ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_NOW)
        for symbol in symbols:
            setter = getattr(library, symbol, None)
            if setter is not None:
                setter.argtypes, setter.restype = [ctypes.c_int], None
                setter(number)
                return


def _threads(names: Iterable[str], default: int) -> int:
    """Return how many threads a library starts with: as the first variable says that holds a number."""
    for name in names:
        first = os.environ.get(name, "").partition(",")[0].strip()
        if first.isascii() and first.isdigit() and int(first) > 0:
            return int(first)
    return default


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _cores() -> int:
    """Return the number of cores: of processors that share one, it counts one."""
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({_line(place.format(one)) or str(one) for one in os.sched_getaffinity(0)})


_OPENBLAS = [f"{name}_set_num_threads{end}" for name in ("scipy_openblas", "openblas") for end in ("64_", "_64", "")]
_LIBRARIES: tuple[tuple[tuple[str, ...], list[str], Callable[[], int]], ...] = (
    (
        ("openblas",),
        _OPENBLAS,
        lambda: _threads(("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"), _processors()),
    ),
    (("mkl_rt",), ["MKL_Set_Num_Threads"], lambda: _threads(("MKL_NUM_THREADS", "OMP_NUM_THREADS"), _cores())),
    (
        ("libgomp", "libiomp", "libomp"),
        ["omp_set_num_threads"],
        lambda: _threads(("OMP_NUM_THREADS",), _processors()),
    ),
    (("libblis",), ["bli_thread_set_num_threads"], lambda: _threads(("BLIS_NUM_THREADS", "OMP_NUM_THREADS"), 1)),
)


# -- the environment that the kernel shows ----------------------------------------------------------


class Room:
    """The place in ``/proc/<pid>/environ`` where a process shows whose it is.

    A fork has the environment there that its parent began with, so the server began with a variable that is long.
    """

    def __init__(self) -> None:
        with open("/proc/self/environ", "rb") as file:
            shown = file.read()
        begin = shown.find(_ROOM)
        if begin < 0:
            raise Doubt("what starts its Python clears the environment")
        with open("/proc/self/stat", "rb") as file:
            env_start = int(file.read().rpartition(b")")[2].split()[47])  # proc_pid_stat(5), field 50
        self._address = env_start + begin
        self._size = shown.find(b"\0", begin) - begin

    def show(self, variables: Iterable[bytes]) -> None:
        """Show variables there, in the present process."""
        content = b"\0".join(variables)
        if len(content) > self._size:
            raise Doubt("its variables are too long")
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(memory, content.ljust(self._size, b"\0"), self._address)
        finally:
            os.close(memory)


# -- programs --------------------------------------------------------------------------------------


class Compiled:
    """A file of Python that is compiled, and has run where that is the same for every call.

    Attributes
    ----------
    text : bytes
        What it is known by: a file that says anything else is another one.
    module : module or None
        Where it has run.
    """

    def __init__(self, name: str, text: bytes, *, runs: bool = False) -> None:
        self.name = name
        self.text = text
        self.code = compile(text, f"{_HERE}/{name}.py", "exec", dont_inherit=True)
        self.module = type(sys)(name) if runs else None
        if self.module is not None:
            exec(self.code, vars(self.module))

    def code_at(self, path: str) -> CodeType:
        """Return the code with the file where it lies for the one attempt of this process, as tracebacks tell it."""
        _say_where(self.code, path)
        return self.code


class Program:
    """What is compiled of an attempt's files."""

    def __init__(self, task: Compiled | None, support: list[Compiled]) -> None:
        self._task = task
        self._support = support

    def code_at(self, path: str) -> CodeType:
        """Return the code of ``task.py``."""
        if self._task is None:
            raise Doubt(f"{_PROGRAM} is large, or compiling it says something")
        return self._task.code_at(path)

    def place_support(self, folder: str) -> None:
        """Have those of our files that are compiled imported as they would be from a folder."""
        if self._support:
            sys.meta_path.insert(0, Finder([Loader(one, f"{folder}/{one.name}.py") for one in self._support]))


class Programs:
    """What is compiled here: our two files that lie beside each task, and each task that was seen."""

    def __init__(self) -> None:
        self._support: list[Compiled] = []
        self._tasks: dict[bytes, Compiled | None] = {}
        folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "functions")
        for name, file in _SUPPORT.items():
            text = content_of(f"{folder}/{file}")
            if text is not None:
                self._support.append(Compiled(name, text, runs=name == _CODEC))

    def of(self, directory: str, root: int) -> Program:
        """Return what is compiled of the files in a directory, which may be relative to another one."""
        text = content_of(f"{directory}/{_PROGRAM}", root)
        same = [one for one in self._support if content_of(f"{directory}/{one.name}.py", root) == one.text]
        return Program(self._compiled(text) if text is not None and len(text) <= _MOST_TEXT else None, same)

    def _compiled(self, text: bytes) -> Compiled | None:
        if text not in self._tasks:
            if len(self._tasks) >= _MOST_TASKS:
                self._tasks.clear()
            self._tasks[text] = None
            with contextlib.suppress(Exception), warnings.catch_warnings(record=True) as told:
                compiled = Compiled("task", text)
                if not told:  # else Python tells each process
                    self._tasks[text] = compiled
        return self._tasks[text]


def content_of(path: str, root: int | None = None) -> bytes | None:
    """Return what a file holds; None where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        with open(descriptor, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


class Loader(_Loader):
    """Loads a file that is compiled as Python loads it."""

    def __init__(self, compiled: Compiled, path: str) -> None:
        super().__init__(compiled.name, path)
        self._compiled = compiled

    def get_code(self, fullname: str) -> CodeType:
        """Return its code."""
        return self._compiled.code_at(self.path)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module if it has run."""
        return self._compiled.module

    def exec_module(self, module: ModuleType) -> None:
        """Run it if it has not."""
        if self._compiled.module is None:
            super().exec_module(module)
        else:
            self._compiled.code_at(self.path)


class Finder:
    """Finds our files before anybody looks for them, once each; then it is gone."""

    def __init__(self, loaders: Iterable[Loader]) -> None:
        self._loaders = {loader.name: loader for loader in loaders}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how a module is loaded; None where it is none of these."""
        loader = self._loaders.pop(name, None)
        if loader is None:
            return None
        if not self._loaders:
            sys.meta_path.remove(self)
        spec = ModuleSpec(name, loader, origin=loader.path)
        spec.has_location = True
        return spec


# -- the process of an attempt ---------------------------------------------------------------------


class Task:
    """What a forked process runs once its gate is open.

    Attributes
    ----------
    status : int or None
        Its exit code; None where Python itself has to end the process, as after KeyboardInterrupt.
    """

    def __init__(self, program: Program, code: CodeType, space: dict[str, Any], kept: frozenset[str]) -> None:
        self.program = program  # so our files are not taken apart at the end either
        self.code = code
        self.space = space
        self.status: int | None = 0
        self._kept = kept

    def run(self) -> None:
        """Run it, and note how it ends; Python itself tells an error, and ends with it, as for any script."""
        try:
            exec(self.code, self.space)
        except SystemExit as end:
            if end.code is not None:
                self.status = end.code & 0xFF if isinstance(end.code, int) else 1
            raise
        except BaseException as error:
            self.status = None if isinstance(error, KeyboardInterrupt) else 1
            sys.excepthook = from_task(sys.excepthook)
            raise

    def finish(self) -> None:
        """End the process when all that was registered to be done at the end is.

        Python would now take apart, one by one, the modules that were imported before, which takes longer than many a
        task. Only what is new ends as it would then: objects that nobody holds are finalized, and files written.
        """
        if self.status is None:
            return
        try:
            flush()
        except Exception:  # noqa: BLE001 - a full disk, or a stream of the user's own
            return  # Python tells it
        for name in sys.modules.keys() - self._kept | {"__main__"}:
            del sys.modules[name]
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
        self.space = {}
        flush_files()
        gc.collect()
        with contextlib.suppress(Exception):
            flush()
        # No other thread runs meanwhile, and libraries do what they do at the end of a process.
        ctypes.PyDLL(None).exit(self.status)


def flush() -> None:
    """Write what was printed."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def flush_files() -> None:
    """Write what was written to files, whoever refers to them: one in a cycle may be closed before its text is."""
    for thing in gc.get_objects():
        if isinstance(thing, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with contextlib.suppress(Exception):
                thing.flush()


class Server:
    """What has imported, and forks.

    Parameters
    ----------
    link : socket.socket
        To the watcher.
    wanted : list of tuple
        What to import: a module, and names in it.
    """

    def __init__(self, link: socket.socket, wanted: list[tuple[str, list[str]]]) -> None:
        self.link = link
        self.root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.room = Room()
        since = time.time()
        before = _descriptors()
        own = {name: os.environ.get(name) for name in _POOLS}
        os.environ.update(dict.fromkeys(_POOLS, "1"))
        load([*wanted, *_USED])
        self.programs = Programs()
        for name, value in own.items():
            if value is not None:
                os.environ[name] = value
            else:
                os.environ.pop(name, None)
        check_alone(before)
        set_threads()
        check_alone(before)
        self.said = said()
        self.files = Files(since)
        self.pools = pools()
        #: What an attempt's own files may be called like: it was imported, and would not be looked for again.
        self.tops = {name.partition(".")[0] for name in sys.modules.keys() - _AT_START} | _SUPPORT.keys()
        has: dict[str, Any] = {"__cached__": None, "__annotations__": {}}  # this one, of a script, may have them
        self.main = {name: value for name, value in has.items() if name in globals()}
        self.kept = frozenset(sys.modules)
        gc.collect()
        gc.freeze()  # processes share these pages, so the collector shall not touch them

    def serve(self) -> Task:
        """Fork a process for each request; return in such a process alone, with what it shall run."""
        self.link.send(b'{"ready": true}')
        while True:
            packet, descriptors, _, _ = socket.recv_fds(self.link, _PACKET, 3, socket.MSG_CMSG_CLOEXEC)
            if not packet:
                os._exit(0)
            request = json.loads(packet)
            changed = self.files.changed()
            if changed is not None:
                self.tell({"leaves": f"{changed} has changed since it was imported"})
                os._exit(0)
            try:
                task = self.fork(request, descriptors)
            except OSError as error:
                self.tell({"number": request["number"], "cold": f"there is no room for a fork: {error.strerror}"})
                task = None
            if task is not None:
                return task
            for descriptor in descriptors:
                os.close(descriptor)  # else the server would hold the lock of the claim

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to the watcher; when it has gone, leave."""
        try:
            self.link.send(json.dumps(message).encode())
        except OSError:
            os._exit(0)

    def fork(self, request: dict[str, Any], descriptors: list[int]) -> Task | None:
        """Fork a process that is nobody's child here; return None in the server.

        Raises
        ------
        OSError
            There is no room for it.
        """
        program = self.programs.of(request["directory"], self.root)
        left, holding = os.pipe()
        try:
            middle = os.fork()
        except OSError:
            os.close(left)
            os.close(holding)
            raise
        if middle == 0:
            if fork_or_end():
                os._exit(0)
            os.close(holding)
            return self.become(request, descriptors, left, program)
        os.close(left)
        _, status = os.waitpid(middle, 0)
        os.close(holding)
        if status:
            raise OSError(status >> 8, os.strerror(status >> 8))
        return None

    def become(self, request: dict[str, Any], descriptors: list[int], left: int, program: Program) -> Task:
        """Become the attempt, as far as its gate, and through it."""
        try:
            try:
                task = self.prepare(request, descriptors, program)
            except Doubt as doubt:
                self.leave(request, str(doubt))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is not the attempt's
                self.leave(request, f"its process could not be made ready: {type(error).__name__}: {error}")
            os.read(left, 1)  # ends when the process between has: then this one is the watcher's
            os.close(left)
            self.tell({"number": request["number"]})
            self.link.close()
            gate = descriptors[2]
            if os.read(gate, 1) != b"1":
                os._exit(0)
            for descriptor in descriptors:  # not before: by the lock that one has, the watcher sees whose it is
                os.close(descriptor)
            for number in (1, 2):
                os.write(number, self.said[number - 1])
        except BaseException:  # noqa: BLE001 - there is nobody to tell
            os._exit(0)
        return task

    def leave(self, request: dict[str, Any], why: str) -> NoReturn:
        """Say that this attempt has to begin cold, and end."""
        self.tell({"number": request["number"], "cold": why})
        os._exit(0)

    def prepare(self, request: dict[str, Any], descriptors: list[int], program: Program) -> Task:
        """Make all ready that a process of its own would have."""
        out, error, _ = descriptors
        os.setsid()
        os.fchdir(self.root)
        os.close(self.root)
        os.chdir(request["directory"])
        self.refuse_shadows()
        write_note()
        here = os.getcwd()
        path = os.path.join(here, _PROGRAM)
        code = program.code_at(path)
        # The watcher speaks UTF-8, whatever the locale here is.
        variables = {name.encode(): value.encode(errors="surrogateescape") for name, value in request["variables"]}
        whose = (b"MATTERSTACK_TOKEN", b"MATTERSTACK_CLAIM")
        self.room.show(name + b"=" + variables[name] for name in whose if name in variables)
        os.environb.update(variables)
        for setter, number in self.pools:
            setter(number)
        draw_anew()
        if "multiprocessing.process" in sys.modules:
            sys.modules["multiprocessing.process"].ORIGINAL_DIR = here  # type: ignore[attr-defined]
        sys.argv[:] = [_PROGRAM]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[-1:] = [_PROGRAM]
        if _HERE in sys.path:
            folder = sys.path[sys.path.index(_HERE)] = os.path.realpath(here)
            program.place_support(folder)
        module = self.main_module(path)
        os.dup2(out, 1)
        os.dup2(error, 2)
        if "claim_fd" in request:  # the lock of the claim, and which process came first, for all that it starts
            os.dup2(out, request["claim_fd"])
            first = os.open(request["first_is"], os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(first, request["first_fd"])
            os.close(first)
        return Task(program, code, vars(module), self.kept)

    def main_module(self, path: str) -> ModuleType:
        """Put a module in the place of this one, as fresh as that of a script."""
        module = type(sys)("__main__")
        vars(module).update(self.main)
        module.__file__ = path
        module.__loader__ = _Loader("__main__", path)
        module.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
        sys.modules["__main__"] = module
        return module

    def refuse_shadows(self) -> None:
        """Raise `Doubt` where a file of the attempt would have been imported in place of what was."""
        for folder in (".", "modules"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for entry in os.scandir(folder):
                    top, _, ending = entry.name.partition(".")
                    if top not in self.tops or entry.path in _BESIDE:
                        continue
                    if ending in ("py", "pyc") or ending.endswith("so") or _is_package(entry):
                        raise Doubt(f"{os.path.normpath(entry.path)} has the same name as a module that it imports")
        if os.path.lexists("matplotlibrc") and "matplotlib" in sys.modules:
            raise Doubt("matplotlib reads matplotlibrc when it is imported")


def _is_package(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and any(name.startswith("__init__.") for name in os.listdir(entry.path))


def draw_anew() -> None:
    """Seed generators that a process of its own would have seeded; that of `random` seeds itself after a fork."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch.random" in sys.modules:
        sys.modules["torch.random"].default_generator.seed()


def fork_or_end() -> int:
    """Fork; where there is no room, end with the number of the error."""
    try:
        return os.fork()
    except OSError as error:
        os._exit(error.errno or 1)


def write_note() -> None:
    """Write down in the present directory how the attempt began."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(".matterstack")
        note = os.open(".matterstack/start", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        os.write(note, b"warm\n")
        os.close(note)


def take_link() -> socket.socket:
    """Take the socket from standard input, which is /dev/null from now on, as for any command."""
    link = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.environ.pop(_ROOM.decode().rstrip("="), None)
    return link


def main() -> Task:
    """Import, and serve; return in the process of an attempt alone."""
    link = take_link()
    packet = link.recv(_PACKET)
    # While it imports nobody listens, so the kernel ends it when the watcher goes: SIGIO is told of that alone.
    fcntl.fcntl(link, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(link, fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC)
    with contextlib.suppress(BlockingIOError):  # it has not gone yet
        link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        os._exit(0)
    try:
        server = Server(link, json.loads(packet or b"[]"))
    except Doubt as doubt:
        link.send(json.dumps({"refuses": str(doubt)}).encode())
        os._exit(0)
    fcntl.fcntl(link, fcntl.F_SETFL, os.O_RDWR)
    return server.serve()


def from_task(hook: Callable[..., object]) -> Callable[..., object]:
    """Return a hook that is told an error without the lines of this file that led to it."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        below = trace
        while below is not None and below.tb_frame.f_globals is globals():
            below = below.tb_next
        hook(kind, error.with_traceback(below), below)

    return tell


if __name__ == "__main__":
    last: list[Callable[[], None]] = []
    atexit.register(lambda: [end() for end in last])  # the first to be registered is the last to be called
    task = main()
    last.append(task.finish)
    task.run()
