"""The process that starts a run's local commands and outlives whoever asked for them.

One runner serves one operator directory, which is its working directory, so the run may
be moved while it works. It is started by `matterstack.operators.local.operator`, alone, with
nothing but the standard library, and it leaves when nothing is left to do and
nobody is connected.

How an attempt is executed once at most:

* the runner holds ``runner.lock`` (flock) for its life, and starts nothing when another file lies at that path: one
  runner at a time starts commands;
* before it starts a command it writes a claim to ``journal.jsonl`` and creates
  ``stdout.txt`` with O_EXCL: whoever finds either does not start the attempt again;
* it holds a flock on ``stdout.txt`` that the command inherits: when the runner is killed,
  the lock, the recorded process, and the token and the claim in the environment of its processes
  tell whether the command is still alive.

Requests and reports are lines of JSON on a stream socket in Linux's abstract namespace,
so that no path is too long and no socket file is left behind. Only the same user may
connect.
"""
