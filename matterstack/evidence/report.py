"""The report of a run: what was asked, where it stands, what it gave, from what, by whom and in what, as a document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from matterstack.core.identifiers import stem_of
from matterstack.evidence.document import Block, Document, Facts, Figure, Gallery, Section, Table, Text, Words
from matterstack.evidence.pictures import Pictures
from matterstack.evidence.units import headed
from matterstack.notebook.moments import in_words, memory

#: Rows of each table that are shown: a reader has the others in tables/.
_MOST_ROWS, _MOST_COLUMNS = 100, 12
_MOST_FILES = 300
_MOST_NAMED = 5
#: Of tasks that are of no function and no group.
_MOST_TABLES = 6
_MOST_CHARACTERS = 300
_MOST_SOURCE = 40_000
_Given = tuple[Mapping[str, Any], dict[str, Any]]
_OVER = ("FAILED", "LOST", "CANCELLED")
_HOW = (
    ("it is whole", "matterstack verify DIRECTORY hashes every file that the record names, and says what differs"),
    ("without MatterStack", "sha256sum --check SHA256SUMS, as long as nobody has gone on with it"),
    ("to look closer", "matterstack.open_run(DIRECTORY) opens it, and runs nothing of it"),
    ("to go on", "matterstack.trust(DIRECTORY), once you know where it comes from; then step it as any run"),
    ("with your Python", "matterstack.open_run(DIRECTORY, operators={'local': matterstack.LocalOperator(python=...)})"),
    ("for programs", "evidence.json, as evidence.schema.json says; tables/; ro-crate-metadata.json"),
)


def report_of(
    record: Mapping[str, Any],
    figures: Mapping[str, Figure | None],
    structures: tuple[Sequence[Figure], int],
    pictures: Pictures,
    sources: Mapping[str, str],
) -> Document:
    """Return the report of a run.

    Parameters
    ----------
    record : mapping
        As evidence.json has it.
    figures : mapping of str to Figure
        ``graph``, ``results`` and ``time``.
    structures : sequence of Figure, and int
        Some of the structures that the run gave, and how many there are.
    pictures : Pictures
        That tasks left.
    sources : mapping of str to str
        Texts of programs, by what they are.
    """
    run = record["run"]
    parts: list[tuple[str, list[Block | None]]] = [
        ("What was asked", list(_asked(record))),
        ("Where it stands", [*_standing(record), figures.get("graph")]),
        ("Results", [*_results(record), figures.get("results"), *_structures(*structures), *_pictures(pictures)]),
        ("What failed", list(_failures(record))),
        ("Who was asked, and what they answered", list(_people(record))),
        ("What people did to the run", list(_acts(record))),
        ("What each attempt took and left", list(_files(record))),
        ("Where and when it ran", [*_machines(record), figures.get("time")]),
        ("What is in this export", list(_contents(record))),
        ("Source of what ran", [_source(*one) for one in sorted(sources.items())]),
    ]
    sections = [Section(title, [block for block in blocks if block is not None]) for title, blocks in parts]
    head = [
        Facts(
            [
                ("as of", f"{_time(run['last_event_at'])}, event {run['last_event']} of its journal"),
                ("made", _time(run["created_at"])),
                ("why", run["reason"] or ""),
                ("tags", ", ".join(run["tags"])),
                ("by", f"MatterStack {record['software']['matterstack']}"),
                ("exported with", f"MatterStack {record['exported_with']['version']}"),
            ]
        )
    ]
    title = f"Run {run['run_id']} of {run['workspace']}"
    return Document(title, run["status"], head, [section for section in sections if section.blocks])


# -- what was asked -------------------------------------------------------------------------------


def _asked(record: Mapping[str, Any]) -> Iterator[Block]:
    asked = record["asked"]
    campaign = asked["campaign"]
    kinds = {
        "workflow": "one workflow, without a campaign",
        "source": f"{campaign['name']}, whose source is {campaign.get('source', '')}",
        "importable": f"{campaign['name']}, which has to be importable",
        "not kept": "one that the run could not keep: whoever goes on has to pass it",
    }
    wanted = ", ".join(f"{name} {direction}" for name, direction in asked["target"].items())
    operators = ", ".join(f"{name} ({one['kind'] or 'of its own'})" for name, one in asked["operators"].items())
    yield Facts(
        [
            ("campaign", kinds.get(campaign["kind"], campaign["name"])),
            ("with", _short(campaign.get("data"))),
            ("target", wanted),
            ("carried out by", operators),
            ("settings", _short(asked["settings"])),
        ]
    )
    likes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for task in record["tasks"]:
        likes.setdefault((_likes(task), task["operator"]), []).append(task)
    rows = [
        [_done(tasks[0]), operator, str(len(tasks)), tasks[0]["task"], _short(tasks[0]["done_with"])]
        for (_, operator), tasks in likes.items()
    ]
    yield _table(
        ("what is done, for example", "by", "such tasks", "the first", "with"), rows, "evidence.json", numbers={2}
    )


def _likes(task: Mapping[str, Any]) -> str:
    """Return what a task has in common with its likes: its function, its group, or the stem of its name."""
    return str(task.get("function") or task.get("group") or stem_of(task["task_id"]) or task["task_id"])


def _done(task: Mapping[str, Any]) -> str:
    """Return what is done in a task."""
    if "function" in task:
        return f"{task['function']}()"
    return _short(task.get("command") or task.get("instructions"))


def _source(caption: str, text: str) -> Block:
    more = "" if len(text) <= _MOST_SOURCE else f"\n... and {len(text) - _MOST_SOURCE} characters more"
    return Text(caption, text[:_MOST_SOURCE] + more)


# -- where it stands --------------------------------------------------------------------------------


def _standing(record: Mapping[str, Any]) -> Iterator[Block]:
    counts = Counter(task["status"] for task in record["tasks"])
    total = len(record["tasks"])
    said = ", ".join(f"{number} {status.lower()}" for status, number in sorted(counts.items()))
    yield Facts(
        [
            ("tasks", f"{total}: {said}" if total else "none"),
            ("attempts", str(len(record["attempts"]))),
            ("iterations", str(len(record["iterations"]))),
            ("state", _short(record["run"]["state"])),
        ]
    )


# -- what it gave -----------------------------------------------------------------------------------


def _results(record: Mapping[str, Any]) -> Iterator[Block]:
    """Yield a table for each function and group, and for the other tasks that gave the same quantities."""
    last = {attempt["task"]: attempt for attempt in record["attempts"] if attempt["status"] == "COMPLETED"}
    groups: dict[object, list[_Given]] = {}
    for task in record["tasks"]:
        given = last.get(task["task"], {}).get("data")
        if task["status"] != "COMPLETED" or not isinstance(given, dict) or not given or "left_out" in given:
            continue
        flat = {name: value for name, value in given.items() if isinstance(value, str | int | float)}
        if flat:
            what = task.get("function") or task.get("group")
            groups.setdefault(str(what) if what else frozenset(flat), []).append((task, flat))
    alike = [what for what in groups if not isinstance(what, str)]
    if len(alike) > _MOST_TABLES:
        groups[None] = [row for what in alike for row in groups.pop(what)]
    for what, rows in groups.items():
        first = rows[0][0]["task"] + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
        yield Words(f"Given by {'other tasks' if what is None else what if isinstance(what, str) else first}:")
        yield _given(rows)


def _given(rows: Sequence[_Given]) -> Table:
    names = list(dict.fromkeys(name for _, flat in rows[:_MOST_ROWS] for name in flat))[:_MOST_COLUMNS]
    numeric = {
        place + 1
        for place, name in enumerate(names)
        if all(isinstance(flat.get(name, 0), int | float) for _, flat in rows[:_MOST_ROWS])
    }
    shown = [[task["task"], *(_value(flat.get(name)) for name in names)] for task, flat in rows[:_MOST_ROWS]]
    head = ("task", *map(headed, names))
    return Table(head, shown, len(rows), "tables/results.csv", frozenset(numeric), frozenset())


def _structures(figures: Sequence[Figure], count: int) -> Iterator[Block]:
    if figures:
        some = f"{len(figures)} of {count} structures" if count > len(figures) else f"{count} structures"
        yield Words(f"{some} that attempts gave, the first frame of each:")
        yield Gallery(figures)


def _pictures(pictures: Pictures) -> Iterator[Block]:
    if pictures.figures:
        yield Words("Pictures that attempts left, as they are:")
        yield Gallery(pictures.figures, are_large=True)
    if pictures.left_out:
        rows = [list(one) for one in pictures.left_out]
        yield _table(("picture that is not shown", "why"), rows, "tables/outputs.csv")


# -- what failed ------------------------------------------------------------------------------------


def _failures(record: Mapping[str, Any]) -> Iterator[Block]:
    stands = {task["task"]: task for task in record["tasks"]}
    changes = {(one["task"], _number(one)): one["changes"] for one in record["attempts"]}
    rows = []
    for attempt in record["attempts"]:
        if attempt["status"] in _OVER:
            task = stands[attempt["task"]]
            then = _then(attempt, task, changes.get((task["task"], _number(attempt) + 1)))
            rows.append([attempt["attempt"], attempt["status"], _short(attempt["reason"]), then])
    rows += [
        [task["task"], task["status"], _short(task["reason"]), "it never began"]
        for task in record["tasks"]
        if task["status"] in ("SKIPPED", "CANCELLED", "FAILED") and not task["attempts"]
    ]
    if rows:
        yield _table(("attempt or task", "status", "why", "then"), rows, "tables/attempts.csv and tables/tasks.csv")


def _number(attempt: Mapping[str, Any]) -> int:
    return int(attempt["attempt"].rpartition(".")[2])


def _then(attempt: Mapping[str, Any], task: Mapping[str, Any], changes: str | None) -> str:
    """Return what became of a task after an attempt that came to nothing."""
    stands = f"the task is {task['status']}"
    if _number(attempt) < task["attempts"]:
        return f"tried again{f' with {changes}' if changes else ''}; {stands}"
    why = task["reason"]
    return stands if why in (None, attempt["reason"]) else f"{stands}: {_short(why)}"


# -- people -----------------------------------------------------------------------------------------


def _people(record: Mapping[str, Any]) -> Iterator[Block]:
    asked = {task["task"]: task.get("instructions") or task["done_with"] for task in record["tasks"]}
    rows = []
    for attempt in record["attempts"]:
        if "answer" not in attempt:
            continue
        waits = "is not known here, since its files are not" if attempt["ended_at"] else "waits"
        answer = attempt["answer"] or {"outcome": waits, "reason": ""}
        number = answer.get("refused", 0)
        refused = f"; {'1 answer was' if number == 1 else f'{number} answers were'} refused before" if number else ""
        rows.append(
            [
                attempt["attempt"],
                _short(asked.get(attempt["task"])),
                f"{answer['outcome']}{refused}{': ' + answer['reason'] if answer['reason'] else ''}",
                answer.get("by", ""),
                _time(answer.get("at")),
                _short(_said(attempt["data"], answer["source"])) if answer["outcome"] == "accepted" else "",
                answer.get("sha256", ""),
            ]
        )
    if rows:
        head = ("request", "asked", "outcome", "by", "when", "answer", "SHA-256 of its bytes")
        yield _table(head, rows, "tables/answers.csv", hashes={6})
        yield Words(
            "Who answered is the owner of the file, or the user of the process, as the computer told it. The bytes "
            "that were accepted are kept below .matterstack/accepted/ of the request."
        )


def _said(data: Any, source: str) -> Any:
    """Return what was answered; the files of a measurement are in a table of their own."""
    if isinstance(data, dict) and source.startswith("experiment_result"):
        return {name: value for name, value in data.items() if name != "files"}
    return data


def _acts(record: Mapping[str, Any]) -> Iterator[Block]:
    """Yield a row for each word of a person, however many tasks it was of."""
    rows = []
    for (at, who, did, reason), acts in groupby(record["acts"], itemgetter("at", "who", "did", "reason")):
        named = [one["of"] or "the run" for one in acts]
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        rows.append([_time(at), who, did, ", ".join(named[:_MOST_NAMED]) + more, _short(reason)])
    if rows:
        yield _table(("when", "who", "what", "of", "why"), rows, "tables/events.csv")
        yield Words(
            "Who it was is the account of their process, as the computer told it; what followed at once, such as that "
            "tasks are skipped, is named with it. What an earlier version of MatterStack wrote has nobody's name."
        )


# -- files ------------------------------------------------------------------------------------------


def _files(record: Mapping[str, Any]) -> Iterator[Block]:
    rows: list[list[str]] = []
    total = 0
    for attempt in record["attempts"]:
        label = attempt["attempt"]
        mine = [
            [label, "took", one["name"], one["of"] or "from outside", one["sha256"] or ""] for one in attempt["inputs"]
        ]
        if attempt["changes"]:
            mine.append([label, "made with", attempt["changes"], "a change of the plan", ""])
        mine += [[label, "left", one["name"], _size(one["bytes"]), one["sha256"]] for one in attempt["outputs"]]
        mine += [[label, "left", name, f"not hashed: {why}", ""] for name, why in attempt["not_hashed"].items()]
        total += len(mine)
        rows += mine[: max(0, _MOST_FILES - len(rows))]
    if rows:
        yield Words(
            "The inputs of each attempt, with where they came from, and what it left that its plan or its result "
            "names, by the SHA-256 that was taken where they were made."
        )
        where = "tables/inputs.csv and tables/outputs.csv"
        yield Table(("attempt", "", "file", "of", "SHA-256"), rows, total, where, frozenset(), frozenset({4}))


# -- machines ---------------------------------------------------------------------------------------


def _machines(record: Mapping[str, Any]) -> Iterator[Block]:
    software = record["software"]
    code = [
        f"{name} {str(one.get('commit'))[:12]}{', changed since' if one.get('dirty') else ''}"
        for name, one in software["code"].items()
        if isinstance(one, dict)
    ]
    yield Facts(
        [
            ("planned with", f"Python {software['python']}" if software["python"] else ""),
            ("packages", _packages(software["packages"])),
            ("own code", ", ".join(code)),
        ]
    )
    ran = Counter(attempt["environment"] for attempt in record["attempts"] if attempt["environment"] is not None)
    rows = [
        [
            str(one.get("host", "")),
            str(one.get("python", "")),
            _packages(one.get("packages")),
            "; ".join(str(one[name]) for name in ("container", "modules") if name in one),
            str(ran[number]),
        ]
        for number, one in enumerate(record["environments"])
    ]
    if rows:
        yield _table(
            ("host", "Python", "packages", "container, modules", "attempts"), rows, "evidence.json", numbers={4}
        )
    recalled = [[one["attempt"], one["cached"]] for one in record["attempts"] if one["cached"]]
    if recalled:
        yield Words("These did not run: their results were taken from a cache, as an attempt of another run gave them.")
        yield _table(("attempt", "given by run, and attempt"), recalled, "evidence.json")
    timed = [one for one in record["attempts"] if one["started_at"] and one["ended_at"]]
    shown = [
        [
            one["attempt"],
            one["status"],
            _time(one["started_at"]),
            in_words(_seconds(one)),
            "" if one["exit_code"] is None else str(one["exit_code"]),
            "" if one["cpu_s"] is None else in_words(one["cpu_s"]),
            memory(one["peak_memory_gib"]),
        ]
        for one in timed[:_MOST_ROWS]
    ]
    if shown:
        head = ("attempt", "status", "began", "took", "exit code", "CPU", "memory")
        yield Table(head, shown, len(timed), "tables/attempts.csv", frozenset({3, 4, 5, 6}))


def _packages(said: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in said.items()) if isinstance(said, dict) else ""


def _seconds(attempt: Mapping[str, Any]) -> float:
    from datetime import datetime

    began, ended = (datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


# -- what is here -----------------------------------------------------------------------------------


def _contents(record: Mapping[str, Any]) -> Iterator[Block]:
    files = record["files"]
    said = {
        "all": "all files of attempts",
        "declared": "of attempts what the plan and the record name; not what commands print, nor what nobody declared",
        "none": "no files of attempts that are over",
    }
    total = sum(one["bytes"] for one in files["included"])
    removed = sum(len(attempt["removed"]) for attempt in record["attempts"])
    cleanings = "1 cleaning" if removed == 1 else f"{removed} cleanings"
    yield Facts(
        [
            ("files", f"{said[files['which']]}: {len(files['included'])} files, {_size(total)}"),
            (
                "left out",
                f"{len(files['left_out'])} files and folders, listed in evidence.json" if files["left_out"] else "",
            ),
            ("removed before", f"in {cleanings}, as the journal says" if removed else ""),
            *_HOW,
        ]
    )
    yield Words(
        "Values that tasks name as env:NAME are not in here: they stay where the task ran. What a command prints or "
        "writes, and plain values in env, are its author's, and are here as they are. Text is that of whoever wrote it."
    )


# -- words ------------------------------------------------------------------------------------------


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    where: str,
    numbers: set[int] | None = None,
    hashes: set[int] | None = None,
) -> Table:
    return Table(head, rows[:_MOST_ROWS], len(rows), where, frozenset(numbers or ()), frozenset(hashes or ()))


def _short(value: Any) -> str:
    """Return a value in a few words."""
    if value in (None, "", {}, []):
        return ""
    text = value if isinstance(value, str) else _flat(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def _flat(value: Any) -> str:
    """Return a value without brackets as far as it can be read so; what is not set is left out."""
    if isinstance(value, dict) and value.get("@") == "reference":
        return ": ".join(filter(None, (f"given by {_flat(value.get('task'))}", _flat(value.get("at") or None))))
    if isinstance(value, dict):
        known = {name: said for name, one in value.items() if (said := _flat(one))}
        return ", ".join(
            f"{name} ({said})" if isinstance(value[name], dict) else f"{name} {said}" for name, said in known.items()
        )
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else _value(value)


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:_MOST_CHARACTERS]


def _time(text: str | None) -> str:
    """Return a moment as people read it."""
    return "" if text is None else f"{text[:10]} {text[11:19]} UTC"


def _size(size: int | None) -> str:
    if size is None:
        return ""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
