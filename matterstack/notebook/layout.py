"""A layered drawing of a directed acyclic graph: few crossings, left to right.

The steps are those of Sugiyama, Tagawa and Toda (IEEE Trans. Syst. Man Cybern. 11 (1981) 109,
doi:10.1109/TSMC.1981.4308636): layers by longest path, places for long edges, barycentre
sweeps for the order, and then positions that follow the neighbours. What is too large for a page is
folded: layers that are too high take several columns, and layers that are too many go on below.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_SWEEPS = 8
_MOST_BENDS = 6000
#: Between two rows, as a part of a row: where edges pass by the columns of a folded layer.
_LANE = 0.43
#: Where a node ends, as a part of its column, and half of its height, as a part of a row.
_RIGHT, _HALF = 0.79, 0.36
#: Between bands of layers, in rows.
_BAND_GAP = 0.7
#: Beside a column, where an edge goes down to the gap below its band; it is higher there when it stays in that band.
_BESIDE, _OVER = 0.04, 0.2


class Layout(NamedTuple):
    """Positions in units of one layer and one row.

    Attributes
    ----------
    points : list of (float, float)
        Of each node.
    bends : list of list of (float, float)
        Of each edge, between its ends; two that are level, or one above the other, are joined by a straight line.
    width, height : float
    """

    points: list[tuple[float, float]]
    bends: list[list[tuple[float, float]]]
    width: float
    height: float


def layers_of(size: int, befores: Sequence[int], afters: Sequence[int]) -> list[int]:
    """Return for each node the longest way to it.

    Parameters
    ----------
    size : int
        Nodes are ``0..size-1``.
    befores, afters : sequence of int
        Where each edge begins and ends; there is no cycle. One look at each is enough where they are in the order of
        their ends, and each begins before it ends, as in most plans.

    Examples
    --------
    >>> layers_of(4, [0, 0, 1], [1, 2, 2])
    [0, 1, 2, 0]
    >>> layers_of(3, [2, 1], [1, 0])
    [2, 1, 0]
    """
    layer = [0] * size
    last = 0
    for source, target in zip(befores, afters, strict=True):
        if not source < target >= last:
            return _layers_by_turns(size, befores, afters)
        last = target
        if layer[source] >= layer[target]:
            layer[target] = layer[source] + 1
    return layer


def _layers_by_turns(size: int, befores: Sequence[int], afters: Sequence[int]) -> list[int]:
    """Return the same for edges in any order: a node has its turn when all before it have had theirs."""
    below: list[list[int]] = [[] for _ in range(size)]
    waiting = [0] * size
    for source, target in zip(befores, afters, strict=True):
        below[source].append(target)
        waiting[target] += 1
    layer = [0] * size
    free = [node for node in range(size) if not waiting[node]]
    for node in free:
        for target in below[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    return layer


def lay_out(layer: Sequence[int], edges: Sequence[tuple[int, int]]) -> Layout:
    """Return where to draw each node.

    Parameters
    ----------
    layer : sequence of int
        Of each node.
    edges : sequence of (int, int)
        From a lower to a higher layer; others get no bends.
    """
    size = len(layer)
    layers = list(layer)
    chains: list[list[int]] = []
    long = sum(max(0, layers[target] - layers[source] - 1) for source, target in edges)
    for source, target in edges:
        chain = []
        if long <= _MOST_BENDS:
            for between in range(layers[source] + 1, layers[target]):
                chain.append(len(layers))
                layers.append(between)
        chains.append(chain)
    before: list[list[int]] = [[] for _ in layers]
    after: list[list[int]] = [[] for _ in layers]
    for (source, target), chain in zip(edges, chains, strict=True):
        way = [source, *chain, target]
        for a, b in itertools.pairwise(way):
            if layers[a] < layers[b]:
                after[a].append(b)
                before[b].append(a)
    columns: dict[int, list[int]] = {}
    for node, at in enumerate(layers):
        columns.setdefault(at, []).append(node)
    order = [columns[at] for at in sorted(columns)]
    place = [0.0] * len(layers)
    for column in order:
        for row, node in enumerate(column):
            place[node] = row
    for sweep in range(_SWEEPS):
        near = before if sweep % 2 == 0 else after
        for column in order if sweep % 2 == 0 else reversed(order):
            wish = {node: _mean(place, near[node], place[node]) for node in column}
            column.sort(key=wish.__getitem__)
            for row, node in enumerate(column):
                place[node] = row
    _follow_neighbours(order, before, after, place)
    height = max(place, default=0.0) + 1
    points = [(float(layers[node]), place[node]) for node in range(size)]
    bends = [[(float(layers[node]), place[node]) for node in chain] for chain in chains]
    return Layout(points, bends, float(max(layers, default=0) + 1), height)


def _follow_neighbours(
    order: Sequence[Sequence[int]], before: Sequence[list[int]], after: Sequence[list[int]], place: list[float]
) -> None:
    """Move nodes towards the middle of their neighbours; keep their order, and a row between them."""
    tallest = max((len(column) for column in order), default=0)
    for column in order:
        shift = (tallest - len(column)) / 2
        for row, node in enumerate(column):
            place[node] = row + shift
    for sweep in range(4):
        for column in order if sweep % 2 == 0 else list(reversed(order)):
            wish = {node: _mean(place, before[node] + after[node], place[node]) for node in column}
            low = float("-inf")
            for node in column:
                place[node] = low = max(wish[node], low + 1)
            over = _mean(place, list(column), 0.0) - sum(wish.values()) / max(1, len(wish))
            for node in column:
                place[node] -= over
    least = min(place, default=0.0)
    for node in range(len(place)):
        place[node] -= least


def fold(layout: Layout, edges: Sequence[tuple[int, int]], columns: int, rows: int) -> Layout:
    """Return the same in so many columns, and in so many rows where it can be; it may be higher, never wider.

    Parameters
    ----------
    layout : Layout
        As `lay_out` returns it.
    edges : sequence of (int, int)
    columns, rows : int
        What there is room for.
    """
    if layout.width <= columns and layout.height <= rows + 1e-6:
        return layout
    layers: dict[float, list[int]] = {}
    for node in sorted(range(len(layout.points)), key=lambda node: layout.points[node][1]):
        layers.setdefault(layout.points[node][0], []).append(node)
    points = [(0.0, 0.0)] * len(layout.points)
    first, last = [0] * len(points), [0] * len(points)  # columns of the layer of each node
    below = [0.0] * len(points)  # the middle of the gap below the band of each node
    widest, top = 0, 0.0
    for band in _bands([layers[at] for at in sorted(layers)], columns, rows):
        most = _rows_of(band, columns, rows)
        shares = [-(-len(layer) // most) for layer in band]
        high = max(-(-len(layer) // share) for layer, share in zip(band, shares, strict=True))
        begin = 0
        for layer, share in zip(band, shares, strict=True):
            step = high / -(-len(layer) // share)
            for number, node in enumerate(layer):
                row, column = divmod(number, share)
                points[node] = (float(begin + column), top + (row + 0.5) * step - 0.5)
                first[node], last[node] = begin, begin + share - 1
                below[node] = top + high - 0.5 + _BAND_GAP / 2
            begin += share
        widest = max(widest, begin)
        top += high + _BAND_GAP
    rows_in: dict[tuple[float, float], list[float]] = {}  # of each column of each band
    for (x, y), gap in sorted(zip(points, below, strict=True)):
        rows_in.setdefault((gap, x), []).append(y)
    bends = []
    for a, b in edges:
        way = _lanes(points, first, last, (a, b))
        if below[a] != below[b]:
            way = _around(points[a], points[b], below[a])
        elif not way and _meets(rows_in, points[a], points[b], below[a]):
            way = _around(points[a], points[b], below[a] - _OVER)
        bends.append(way)
    return Layout(points, bends, float(widest), max(top - _BAND_GAP, 0.0))


def _bands(layers: Sequence[list[int]], columns: int, rows: int) -> list[list[list[int]]]:
    """Return the layers in as many bands as are needed, each no wider than there are columns."""
    if len(layers) <= columns:
        return [list(layers)] if layers else []
    bands: list[list[list[int]]] = []
    used = columns
    for layer in layers:
        share = -(-len(layer) // rows)
        if used + share > columns:
            bands.append([])
            used = 0
        bands[-1].append(layer)
        used += share
    return bands


def _rows_of(band: Sequence[list[int]], columns: int, rows: int) -> int:
    """Return the fewest rows, from `rows` on, with which a band has no more columns than there are."""
    choices = range(rows, max(rows, *(len(layer) for layer in band)) + 1)
    return choices[bisect_left(choices, -columns, key=lambda most: -sum(-(-len(layer) // most) for layer in band))]


def _lanes(
    points: Sequence[tuple[float, float]], first: Sequence[int], last: Sequence[int], edge: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return the bends of an edge that passes between the rows of the layers it leaves and enters."""
    (x, y), (to_x, to_y) = (points[node] for node in edge)
    source, target = edge
    bends = []
    if x < last[source]:
        bends += [(x + 1, y + _LANE), (last[source] + _RIGHT, y + _LANE)]
    if to_x > first[target]:
        bends += [(float(first[target]), to_y - _LANE), (to_x - 1 + _RIGHT, to_y - _LANE)]
    return bends


def _meets(
    rows_in: Mapping[tuple[float, float], Sequence[float]],
    source: tuple[float, float],
    target: tuple[float, float],
    below: float,
) -> bool:
    """Return whether an edge without bends would run through a node of a column between."""
    (x, y), (to_x, to_y) = source, target
    length = to_x - x - _RIGHT
    for column in range(int(x) + 1, int(to_x)):
        ends = []
        for at in (column, column + _RIGHT):
            part = (at - x - _RIGHT) / length
            ends.append(y + (to_y - y) * part * part * (3 - 2 * part))  # about the curve that is drawn
        rows = rows_in.get((below, float(column)), ())
        if bisect_left(rows, min(ends) - _HALF) < bisect_left(rows, max(ends) + _HALF):
            return True
    return False


def _around(source: tuple[float, float], target: tuple[float, float], below: float) -> list[tuple[float, float]]:
    """Return the bends of an edge that passes beside the columns and below its band, where no node is."""
    (x, y), (to_x, to_y) = source, target
    down, up = x + _RIGHT + _BESIDE, to_x - _BESIDE
    return [(down, y), (down, below), (up, below), (up, to_y)]


def _mean(place: Sequence[float], nodes: Sequence[int], otherwise: float) -> float:
    return sum(place[node] for node in nodes) / len(nodes) if nodes else otherwise
