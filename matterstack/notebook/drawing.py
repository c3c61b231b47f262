"""The drawing of a run's graph: which nodes stand for which tasks, where they are, and as SVG."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from matterstack.core.text import neutral
from matterstack.notebook.board import Board, Card
from matterstack.notebook.layout import lay_out, layers_of
from matterstack.notebook.statuses import BY_CODE, LOOKS

if TYPE_CHECKING:
    import networkx

#: More tasks than this are not drawn one by one unless asked for: a graph of that size cannot be read.
READABLE = 300
MOST_NODES = 2000
STEP_X, STEP_Y, NODE_WIDTH, NODE_HEIGHT, MARGIN = 200, 36, 158, 26, 12
#: What a node that stands for several tasks looks like: the first of these that any of them has.
_URGENT = "FWXQRBNSC"
COLLAPSE = ("auto", "tasks", "group", "iteration")


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or several that are drawn as one."""

    key: str
    label: str
    tasks: tuple[int, ...]
    single: bool


class Drawing:
    """How the tasks of a board are drawn.

    Parameters
    ----------
    board : Board
    collapse : {'auto', 'tasks', 'group', 'iteration'}
    expanded : collection of str
        Keys of nodes that are drawn task by task all the same.
    graph : networkx.DiGraph, optional
        Which of the tasks to draw, by their names, and which edges; by default all of both.
    """

    def __init__(
        self,
        board: Board,
        collapse: str,
        expanded: Collection[str],
        graph: networkx.DiGraph[str] | None = None,
    ) -> None:
        self.board = board
        self.note = ""
        cards = [card for card in board.cards.values() if graph is None or card.name in graph]
        row = {card.id: number for number, card in enumerate(cards)}
        if graph is None:
            pairs = [(row[a], row[b]) for a, b in board.edges]
        else:
            place = {card.name: number for number, card in enumerate(cards)}
            pairs = sorted((place[a], place[b]) for a, b in graph.edges)
        self.ids = [card.id for card in cards]
        self.pairs = pairs
        layer = layers_of(len(cards), pairs)
        keys = _keys(cards, layer, collapse, set(expanded))
        if len(set(keys)) > MOST_NODES:
            keys = _keys(cards, layer, "group" if collapse != "iteration" else collapse, set())
            self.note = f"more than {MOST_NODES} nodes cannot be drawn: tasks are shown in groups"
        members: dict[tuple[str, str, bool], list[int]] = {}
        for number, key in enumerate(keys):
            members.setdefault(key, []).append(number)
        self.nodes = [
            Node(key, label, tuple(cards[number].id for number in numbers), single)
            for (key, label, single), numbers in members.items()
        ]
        self.place_of = {task: number for number, node in enumerate(self.nodes) for task in node.tasks}
        of_row = [self.place_of[card.id] for card in cards]
        self._lay_out(cards, [min(layer[row[t]] for t in node.tasks) for node in self.nodes], pairs, of_row)

    def _lay_out(
        self, cards: Sequence[Card], layer: list[int], pairs: Sequence[tuple[int, int]], of_row: Sequence[int]
    ) -> None:
        iteration = {number: self.board.cards[node.tasks[0]].iteration for number, node in enumerate(self.nodes)}
        depth: dict[int, int] = {}
        for number, at in iteration.items():
            depth[at] = max(depth.get(at, 0), layer[number] + 1)
        start, begin = 0, {}
        for at in sorted(depth):
            begin[at] = start
            start += depth[at]
        shifted = [begin[iteration[number]] + layer[number] for number in range(len(self.nodes))]
        shifted = _dense(shifted)
        edges = {(of_row[a], of_row[b]) for a, b in pairs} - {(number, number) for number in range(len(self.nodes))}
        alone = [number for number, node in enumerate(self.nodes) if node.key.endswith(".*")]
        edges |= {(a, b) for a, b in itertools.pairwise(alone) if iteration[a] + 1 == iteration[b]}
        self.edges = sorted(edges)
        self.layout = lay_out(shifted, self.edges)
        self.width = (self.layout.width - 1) * STEP_X + NODE_WIDTH + 2 * MARGIN
        self.height = (self.layout.height - 1) * STEP_Y + NODE_HEIGHT + 2 * MARGIN

    def _at(self, point: tuple[float, float]) -> tuple[int, int]:
        return round(point[0] * STEP_X + MARGIN), round(point[1] * STEP_Y + MARGIN)

    @property
    def counts(self) -> Counter[str]:
        """How many of the tasks that are drawn look how."""
        return Counter(self.board.cards[task].code for task in self.ids)

    def cards_in(self, key: str) -> list[Card]:
        """Return the tasks that the node of a key stands for; none where there is no such node."""
        return [self.board.cards[task] for node in self.nodes if node.key == key for task in node.tasks]

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
            }
            for node, (x, y) in zip(self.nodes, map(self._at, self.layout.points), strict=True)
        ]
        edges = [
            {"from": a, "to": b, "path": _edge_path(nodes[a], nodes[b], [self._at(bend) for bend in bends])}
            for (a, b), bends in zip(self.edges, self.layout.bends, strict=True)
        ]
        return {
            "nodes": nodes,
            "edges": edges,
            "width": round(self.width),
            "height": round(self.height),
            "node": {"width": NODE_WIDTH, "height": NODE_HEIGHT},
            "note": self.note,
        }

    def state(self) -> dict[str, Any]:
        """Return the statuses: a letter a node, and of nodes that stand for several their counts."""
        cards = self.board.cards
        codes = []
        parts: dict[str, dict[str, int]] = {}
        for number, node in enumerate(self.nodes):
            if len(node.tasks) == 1:
                codes.append(cards[node.tasks[0]].code)
                continue
            counts = Counter(cards[task].code for task in node.tasks)
            codes.append(next(code for code in _URGENT if counts[code]))
            parts[str(number)] = dict(counts)
        return {"codes": "".join(codes), "parts": parts, "counts": dict(self.counts)}

    def svg(self) -> str:
        """Return the drawing as SVG that needs nothing else; all text is escaped."""
        graph, state = self.graph(), self.state()
        width, height = graph["width"], graph["height"]
        legend_height = 24
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + legend_height}" '
            f'style="max-width:100%;max-height:480px" width="{width}" height="{height + legend_height}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(describe(state['counts']))}</title>",
            f'<rect width="{width}" height="{height + legend_height}" fill="#ffffff"/>',
        ]
        at = MARGIN
        for look in LOOKS:
            if count := state["counts"].get(look.code):
                text = f"{count} {look.name.lower()}"
                out.append(f'<g transform="translate({at},4)">{_glyph(look.code)}</g>')
                out.append(f'<text x="{at + 20}" y="16" fill="#333333">{text}</text>')
                at += 34 + 7 * len(text)
        out.append(f'<g transform="translate(0,{legend_height})">')
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


def _keys(
    cards: Sequence[Card], layer: Sequence[int], collapse: str, expanded: set[str]
) -> list[tuple[str, str, bool]]:
    """Return key and label of the node that each task is drawn in, and whether it is drawn by itself."""
    last = cards[-1].iteration if cards else 0
    sizes = Counter(card.iteration for card in cards)
    found = []
    for card, at in zip(cards, layer, strict=True):
        way = collapse
        if collapse == "auto":
            small = len(cards) <= READABLE or (card.iteration == last and sizes[last] <= READABLE)
            way = "tasks" if small else "group" if card.iteration == last else "iteration"
        if way == "iteration":
            key, label = f"{card.iteration}.*", f"iteration {card.iteration}"
        elif way == "group":
            what = card.group or f"stage {at}"
            key, label = f"{card.iteration}:{what}", what
        else:
            key = ""
        if not key or key in expanded:
            found.append((card.name, card.task_id, True))
        else:
            found.append((key, label, False))
    return found


def _shown(label: str, count: int, single: bool) -> str:
    """Return what of a label has room in a node."""
    shown = label if len(label) <= 18 else f"{label[:8]}…{label[-9:]}"
    return shown if single else f"{shown} ({count})"


def _edge_path(source: dict[str, Any], target: dict[str, Any], bends: Sequence[tuple[int, int]]) -> str:
    """Return an edge as the data of an SVG path: from the right of one node to the left of the other."""
    half = NODE_HEIGHT // 2
    x, y = source["x"] + NODE_WIDTH, source["y"] + half
    path = [f"M{x} {y}"]
    for to_x, to_y in [*((bx, by + half) for bx, by in bends), (target["x"], target["y"] + half)]:
        middle = (x + to_x) // 2
        path.append(f"C{middle} {y} {middle} {to_y} {to_x} {to_y}")
        x, y = to_x, to_y
    return "".join(path)


def _glyph(code: str) -> str:
    look = BY_CODE[code]
    return (
        f'<path d="{look.glyph}" fill="none" stroke="{look.colour}" stroke-width="2" stroke-linecap="round" '
        'stroke-linejoin="round"/>'
    )


def _node(node: dict[str, Any], code: str, parts: dict[str, int] | None) -> str:
    look = BY_CODE[code]
    dashed = ' stroke-dasharray="4 3"' if code in "BSN" else ""
    bar = []
    if parts:
        at = 0.0
        for part in LOOKS:
            if number := parts.get(part.code):
                length = (NODE_WIDTH - 2) * number / node["count"]
                box = f'x="{1 + at:.1f}" y="{NODE_HEIGHT - 4}" width="{length:.1f}" height="3"'
                bar.append(f'<rect {box} fill="{part.colour}"/>')
                at += length
    return (
        f'<g transform="translate({node["x"]},{node["y"]})"><title>{escape(node["label"])}: {look.name}</title>'
        f'<rect width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="5" fill="#ffffff" stroke="{look.colour}" '
        f'stroke-width="1.5"{dashed}/>{"".join(bar)}<g transform="translate(5,5)">{_glyph(code)}</g>'
        f'<text x="26" y="17" fill="#222222">{escape(node["shown"])}</text></g>'
    )
