"""The drawing of a run's graph: which nodes stand for which tasks, where they are, and as SVG."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.text import neutral
from matterstack.notebook.board import Tasks, all_of, count
from matterstack.notebook.grouping import MOST_NODES, Groups, Place
from matterstack.notebook.layout import fold, lay_out, layers_of
from matterstack.notebook.statuses import BY_CODE, LOOKS

if TYPE_CHECKING:
    import networkx

STEP_X, STEP_Y, NODE_WIDTH, NODE_HEIGHT, MARGIN = 200, 36, 158, 26, 12
#: What a node that stands for several tasks looks like: the first of these that any of them has.
_URGENT = "FWXQRBNSC"


class Room(NamedTuple):
    """How many nodes there is room for, side by side and one above the other, with text that can be read."""

    columns: int
    rows: int


#: Of a page whose size is not known: 782 by 588 pixels.
PAGE = Room(4, 16)
#: Of a picture that shows every task because one asked for it: it may be long.
LONG_PAGE = Room(4, 75)


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or several that are drawn as one, by their numbers; and the open group that it is in, if it is in one."""

    key: str
    label: str
    tasks: Sequence[int]
    single: bool
    inside: str


class Shape:
    """What is there to be drawn, whatever is open and however much room there is: worked out once for many drawings.

    Tasks have numbers, from 0 on, in the order of the plan.

    Attributes
    ----------
    tasks : Tasks
    chosen : sequence of int
        The places of the tasks in their columns.
    befores, afters : sequence of int
        Where each edge begins and ends.
    layer : list of int
        How deep each task stands in the graph.
    groups : Groups
    """

    def __init__(self, tasks: Tasks, graph: networkx.DiGraph[str] | None = None) -> None:
        self.tasks = tasks
        self.chosen: Sequence[int] = range(len(tasks))
        self.befores: Sequence[int]
        self.afters: Sequence[int]
        if graph is None:
            self.befores, self.afters = tasks.edges
        else:
            self.chosen = [place for place in self.chosen if tasks.name(place) in graph]
            number = {tasks.name(place): number for number, place in enumerate(self.chosen)}
            pairs = sorted((number[after], number[before]) for before, after in graph.edges)
            self.befores, self.afters = [before for _, before in pairs], [after for after, _ in pairs]
        self.layer = layers_of(len(self.chosen), self.befores, self.afters)
        self.groups = Groups(tasks, self.chosen, self.layer)

    @cached_property
    def stages(self) -> Groups:
        """The same in groups by stage."""
        return Groups(self.tasks, self.chosen, self.layer, by_stage=True)

    @cached_property
    def last(self) -> int:
        """The number of the last iteration."""
        return self.tasks.iterations[self.chosen[-1]] if self.chosen else 0

    def number(self, row: int) -> int | None:
        """Return the number of a task by its row in the database; None where it is not drawn."""
        place = self.tasks.place(row)
        if place is None:
            return None
        at = bisect_left(self.chosen, place)
        return at if at < len(self.chosen) and self.chosen[at] == place else None

    def codes(self) -> bytearray:
        """Return how each task looks now."""
        if isinstance(self.chosen, range):
            return self.tasks.codes[: len(self.chosen)]
        return bytearray(map(self.tasks.codes.__getitem__, self.chosen))


class Drawing:
    """How the tasks of a board are drawn.

    Parameters
    ----------
    shape : Shape
    collapse : {'auto', 'tasks', 'group', 'iteration'}
        With ``auto`` tasks are drawn one by one where there is room, and else in groups.
    expanded : sequence of str
        Keys of groups that are open all the same, those that were opened first first.
    room : Room
    """

    def __init__(self, shape: Shape, collapse: str, expanded: Sequence[str], room: Room = PAGE) -> None:
        self.shape = shape
        self.room = room
        self.note = ""
        self.opened: list[str] = []
        self._codes = shape.codes()
        self._choose(collapse)
        self._open([key for key in expanded if key in self.groups.places()])

    # -- which tasks are drawn as one -----------------------------------------------------------

    def _choose(self, collapse: str) -> None:
        """Draw as one says; what there is no room for is drawn in groups."""
        self.groups = self.shape.groups
        if collapse != "auto":
            opened = {"tasks": set(self.groups.places()), "group": self._iterations(), "iteration": set()}[collapse]
            if self.groups.count(opened) <= MOST_NODES:
                self._draw(self.groups, opened)
                return
            self.note = f"more than {MOST_NODES} nodes cannot be drawn: tasks are shown in groups"
        best: tuple[int, Groups, set[str]] | None = None
        for groups, opened in self._ways():
            count = groups.count(opened)
            if count <= self.room.columns * self.room.rows:
                self._draw(groups, opened)
                if self.fits:
                    return
            if best is None or count < best[0]:
                best = (count, groups, opened)
        if best is not None:
            self._draw(*best[1:])

    def _ways(self) -> Iterator[tuple[Groups, set[str]]]:
        """Yield what may be open, the most first: all, the last iteration, its groups, its stages, nothing."""
        named, last = self.groups, self.shape.last
        most = len(self._iterations())
        yield named, set(named.places())
        if most > 1:
            yield named, set(named.places({last}))
        latest = {f"{last}.*"}
        # One node for all of it says nothing: it comes last.
        if named.count(latest) > most:
            yield named, latest
            yield self.shape.stages, latest
        else:
            both = [(named, latest), (self.shape.stages, latest)]
            yield from sorted(both, key=lambda way: way[0].count(latest) <= most)
        if most > 1:
            yield named, set()

    def _iterations(self) -> set[str]:
        return {path[0].key for path in self.groups.paths}

    def _open(self, wanted: list[str]) -> None:
        """Open groups; where that makes too many nodes, those that were opened first are closed again."""
        while self.groups.count(self._base | set(wanted)) > MOST_NODES and wanted:
            self.note = f"more than {MOST_NODES} nodes cannot be drawn: what was opened first is closed again"
            inmost = [key for key in wanted if not any(other != key and other.startswith(key) for other in wanted)]
            wanted = [key for key in wanted if key != inmost[0]]
        self.opened = wanted
        if wanted:
            self._draw(self.groups, self._base)

    def _draw(self, groups: Groups, base: set[str]) -> None:
        """Draw the tasks where some groups are open by themselves, and some because one opened them."""
        self.groups, self._base = groups, base
        together: dict[Place, array[int]] = {}
        found: list[tuple[Place, Sequence[int], tuple[Place, ...]]] = []
        numbers: Sequence[int]
        drawn = groups.drawn(base | set(self.opened))
        for place, numbers, path in zip(drawn, groups.members, groups.paths, strict=True):
            if place is None:
                found += ((groups.alone(number), (number,), path) for number in numbers)
            elif place in together:
                together[place] += numbers
            else:
                together[place] = numbers[:]
                found.append((place, together[place], path))
        found.sort(key=lambda one: one[1][0])
        self.nodes = []
        for place, numbers, path in found:
            inside = [outer.key for outer in path if outer.key in self.opened and outer.key != place.key]
            self.nodes.append(Node(place.key, place.label, numbers, place.single, inside[-1] if inside else ""))
        node_of = {node.key: number for number, node in enumerate(self.nodes)}
        #: For each path the node of its tasks, and where each has its own, for each of these its node.
        self._of_path = [-1 if place is None else node_of[place.key] for place in drawn]
        self._alone = {node.tasks[0]: number for number, node in enumerate(self.nodes) if node.single}
        self._counts = [count(bytes(map(self._codes.__getitem__, node.tasks))) for node in self.nodes]
        self._lay_out()

    def node_of(self, number: int) -> int:
        """Return which node a task is drawn in."""
        node = self._of_path[self.groups.of[number]]
        return self._alone[number] if node < 0 else node

    def closed_around(self, row: int) -> list[str]:
        """Return the keys that have to be open for a task to be drawn by itself, the outermost first."""
        number = self.shape.number(row)
        path = () if number is None else self.groups.paths[self.groups.of[number]]
        return [place.key for place in path if place.key not in self._base]

    # -- where they are ---------------------------------------------------------------------------

    def _lay_out(self) -> None:
        shape = self.shape
        layer = [min(map(shape.layer.__getitem__, node.tasks)) for node in self.nodes]
        iterations = shape.tasks.iterations
        iteration = [iterations[shape.chosen[node.tasks[0]]] for node in self.nodes]
        depth: dict[int, int] = {}
        for number, at in enumerate(iteration):
            depth[at] = max(depth.get(at, 0), layer[number] + 1)
        start, begin = 0, {}
        for at in sorted(depth):
            begin[at] = start
            start += depth[at]
        shifted = _dense([begin[iteration[number]] + layer[number] for number in range(len(self.nodes))])
        edges = self._edges()
        alone = [number for number, node in enumerate(self.nodes) if node.key.endswith(".*")]
        edges |= {(a, b) for a, b in itertools.pairwise(alone) if iteration[a] + 1 == iteration[b]}
        self.edges = sorted(edges)
        self.layout = fold(lay_out(shifted, self.edges), self.edges, *self.room)
        self.width = max(self.layout.width - 1, 0) * STEP_X + NODE_WIDTH + 2 * MARGIN
        self.height = max(self.layout.height - 1, 0) * STEP_Y + NODE_HEIGHT + 2 * MARGIN

    def _edges(self) -> set[tuple[int, int]]:
        """Return which nodes edges lead between: all of a path are drawn in one node, or each task in its own."""
        of = self.groups.of
        paths = zip(map(of.__getitem__, self.shape.befores), map(of.__getitem__, self.shape.afters), strict=True)
        nodes = self._of_path
        if -1 not in nodes:
            edges = {(nodes[a], nodes[b]) for a, b in set(paths)}
        else:
            ends = zip(self.shape.befores, self.shape.afters, strict=True)
            edges = {(self.node_of(before), self.node_of(after)) for before, after in ends}
        return {(a, b) for a, b in edges if a != b}

    @property
    def fits(self) -> bool:
        """Whether there is room for all of it."""
        return self.layout.width <= self.room.columns and self.layout.height <= self.room.rows + 1e-6

    def _at(self, point: tuple[float, float]) -> tuple[int, int]:
        return round(point[0] * STEP_X + MARGIN), round(point[1] * STEP_Y + MARGIN)

    # -- what is shown ----------------------------------------------------------------------------

    def follow(self, rows: Iterable[int]) -> None:
        """Take in how some tasks look now, by their rows in the database."""
        for row in rows:
            number = self.shape.number(row)
            if number is None:
                continue
            before, now = self._codes[number], self.shape.tasks.codes[self.shape.chosen[number]]
            if before != now:
                self._codes[number] = now
                counts = self._counts[self.node_of(number)]
                counts[chr(before)] -= 1
                counts[chr(now)] += 1

    @property
    def counts(self) -> Counter[str]:
        """How many of the tasks that are drawn look how."""
        return count(self._codes)

    def key_of(self, row: int) -> str:
        """Return the key of the node that a task is drawn in, by its row in the database; nothing where it is not."""
        number = self.shape.number(row)
        return "" if number is None else self.nodes[self.node_of(number)].key

    def places_in(self, key: str, letters: str) -> Iterator[int]:
        """Yield the places of the tasks that the node of a key stands for, those with the first letter first."""
        tasks = next((node.tasks for node in self.nodes if node.key == key), ())
        codes = bytes(map(self._codes.__getitem__, tasks))
        return (self.shape.chosen[tasks[at]] for letter in letters for at in all_of(codes, letter))

    def counts_in(self, key: str) -> Counter[str]:
        """Return how many of the tasks that the node of a key stands for look how."""
        return next(
            (+counts for node, counts in zip(self.nodes, self._counts, strict=True) if node.key == key), Counter()
        )

    def find(self, text: str) -> Iterator[int]:
        """Yield the numbers of the tasks whose name has some text in it."""
        text, tasks = text.lower(), self.shape.tasks
        for number, place in enumerate(self.shape.chosen):
            if text in tasks.name(place).lower():
                yield number

    def graph(self) -> dict[str, Any]:
        """Return what does not change while statuses do, as plain data for the browser."""
        nodes = [
            {
                "key": node.key,
                "label": neutral(node.label),
                "shown": _shown(neutral(node.label), len(node.tasks), node.single),
                "x": x,
                "y": y,
                "count": len(node.tasks),
                "single": node.single,
                "inside": node.inside,
            }
            for node, (x, y) in zip(self.nodes, map(self._at, self.layout.points), strict=True)
        ]
        edges = [
            {"from": a, "to": b, "path": _edge_path(nodes[a], nodes[b], [self._at(bend) for bend in bends])}
            for (a, b), bends in zip(self.edges, self.layout.bends, strict=True)
        ]
        places = self.groups.places() if self.opened else {}
        return {
            "nodes": nodes,
            "edges": edges,
            "width": round(self.width),
            "height": round(self.height),
            "node": {"width": NODE_WIDTH, "height": NODE_HEIGHT},
            "step": {"width": STEP_X, "height": STEP_Y},
            "margin": MARGIN,
            "opened": [{"key": key, "label": neutral(places[key].label)} for key in self.opened],
            "note": self.note,
        }

    def state(self) -> dict[str, Any]:
        """Return the statuses: a letter per node, and of nodes that stand for several their counts."""
        codes = []
        parts: dict[str, dict[str, int]] = {}
        for number, counts in enumerate(self._counts):
            codes.append(next(code for code in _URGENT if counts[code]))
            if len(self.nodes[number].tasks) > 1:
                parts[str(number)] = dict(+counts)
        return {"codes": "".join(codes), "parts": parts, "counts": dict(self.counts)}

    def svg(self) -> str:
        """Return the drawing as SVG that needs nothing else; all text is escaped."""
        graph, state = self.graph(), self.state()
        legend, legend_width, legend_height = _legend(state["counts"])
        width, height = max(graph["width"], legend_width), graph["height"] + legend_height
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(describe(state['counts']))}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>{legend}',
            f'<g transform="translate(0,{legend_height})">',
        ]
        out += [f'<path d="{edge["path"]}" fill="none" stroke="#a0a0a0"/>' for edge in graph["edges"]]
        for number, node in enumerate(graph["nodes"]):
            out.append(_node(node, state["codes"][number], state["parts"].get(str(number))))
        out.append("</g></svg>")
        return "".join(out)


def describe(counts: dict[str, int]) -> str:
    """Return the counts in words, as in ``3 completed, 1 waiting``."""
    return (
        ", ".join(f"{counts[look.code]} {look.name.lower()}" for look in LOOKS if counts.get(look.code)) or "no tasks"
    )


def _dense(layers: Sequence[int]) -> list[int]:
    """Close the gaps that collapsing left."""
    rank = {layer: number for number, layer in enumerate(sorted(set(layers)))}
    return [rank[layer] for layer in layers]


def _shown(label: str, count: int, single: bool) -> str:
    """Return what of a label has room in a node."""
    number = "" if single else f" ({count})"
    room = 18 if single else 20 - len(number)
    before = room // 2 - 1
    return (label if len(label) <= room else f"{label[:before]}…{label[before + 1 - room :]}") + number


def _edge_path(source: dict[str, Any], target: dict[str, Any], bends: Sequence[tuple[int, int]]) -> str:
    """Return an edge as the data of an SVG path: from the right of one node to the left of the other."""
    half = NODE_HEIGHT // 2
    x, y = source["x"] + NODE_WIDTH, source["y"] + half
    path = [f"M{x} {y}"]
    for to_x, to_y in [*((bx, by + half) for bx, by in bends), (target["x"], target["y"] + half)]:
        if y == to_y:
            path.append(f"H{to_x}")
        elif x == to_x:
            path.append(f"V{to_y}")
        else:
            out, into = ((x + to_x) // 2,) * 2 if to_x > x else (x + STEP_X // 5, to_x - STEP_X // 5)
            path.append(f"C{out} {y} {into} {to_y} {to_x} {to_y}")
        x, y = to_x, to_y
    return "".join(path)


def _legend(counts: dict[str, int]) -> tuple[str, int, int]:
    """Return how many tasks look how as SVG, and its width and height: lines as wide as a page."""
    widest = (PAGE.columns - 1) * STEP_X + NODE_WIDTH + 2 * MARGIN
    out = []
    x, y, width = MARGIN, 4, 0
    for look in LOOKS:
        if count := counts.get(look.code):
            text = f"{count} {look.name.lower()}"
            length = 34 + 7 * len(text)
            if x > MARGIN and x + length > widest:
                x, y = MARGIN, y + 20
            words = f'<text x="20" y="12" fill="#333333">{text}</text>'
            out.append(f'<g transform="translate({x},{y})">{_glyph(look.code)}{words}</g>')
            x += length
            width = max(width, x)
    return "".join(out), width, y + 20


def _glyph(code: str) -> str:
    look = BY_CODE[code]
    return (
        f'<path d="{look.glyph}" fill="none" stroke="{look.colour}" stroke-width="2" stroke-linecap="round" '
        'stroke-linejoin="round"/>'
    )


def _node(node: dict[str, Any], code: str, parts: dict[str, int] | None) -> str:
    look = BY_CODE[code]
    box = f'width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="5" fill="#ffffff" stroke="{look.colour}"'
    dashed = ' stroke-dasharray="4 3"' if code in "BSN" else ""
    behind = "" if node["single"] else f'<rect x="3" y="3" {box} stroke-opacity="0.5"/>'
    bar = []
    if parts:
        at = 0.0
        for part in LOOKS:
            if number := parts.get(part.code):
                length = (NODE_WIDTH - 2) * number / node["count"]
                place = f'x="{1 + at:.1f}" y="{NODE_HEIGHT - 4}" width="{length:.1f}" height="3"'
                bar.append(f'<rect {place} fill="{part.colour}"/>')
                at += length
    return (
        f'<g transform="translate({node["x"]},{node["y"]})"><title>{escape(node["label"])}: {look.name}</title>'
        f'{behind}<rect {box} stroke-width="1.5"{dashed}/>{"".join(bar)}'
        f'<g transform="translate(5,5)">{_glyph(code)}</g>'
        f'<text x="26" y="17" fill="#222222">{escape(node["shown"])}</text></g>'
    )
