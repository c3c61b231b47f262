"""The program that reads answers, each in a process of its own with bounds on time and memory.

It has loaded what checks need, so that one begins at once: over its standard input, a socket, come the descriptors of
a question and of where the answer to it shall go, and a child is forked for them. It ends with who started it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
from typing import Any

from matterstack.core.schemas import load_jsonschema
from matterstack.operators.requests.answers import read_answer

_MOST_BYTES = 1 << 30  # of memory, that of the interpreter included

#: What stands before the descriptors: which library the check needs besides, that takes long to load.
PLAIN, WITH_IRIS, WITH_WORKBOOKS = b"?", b"i", b"w"
_LIBRARIES = {WITH_IRIS: "rfc3987_syntax", WITH_WORKBOOKS: "openpyxl"}
#: Libraries for numbers, which openpyxl loads where they are, reserve memory for a thread on each core.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

#: Said first by a child, so that one that was cut off is told from one that never began.
BEGUN = b"B"


def serve(control: socket.socket) -> None:
    """Fork a child for each question, until there is nobody to ask any more."""
    load_jsonschema()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    while True:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not said:
            os.killpg(0, signal.SIGKILL)  # the children with it
        if said in _LIBRARIES:  # loaded once, for all
            with contextlib.suppress(ImportError):
                importlib.import_module(_LIBRARIES[said])
        if len(descriptors) == 2 and os.fork() == 0:
            try:
                control.close()
                _answer(*descriptors)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _answer(question: int, reply: int) -> None:
    import resource

    with open(question, "rb") as file, socket.socket(fileno=reply) as there:
        there.sendall(BEGUN)
        asked = json.loads(file.readline())
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (asked["most_s"], asked["most_s"]))
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        said: dict[str, Any]
        try:
            found = read_answer(asked["source"], file.read(), asked["schema"])
            said = {"value": found.value, "violations": found.violations}
        except MemoryError:
            said = {
                "value": None,
                "violations": [((), "", f"it cannot be checked within {_MOST_BYTES >> 30} GiB of memory")],
            }
        there.sendall(json.dumps(said).encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
