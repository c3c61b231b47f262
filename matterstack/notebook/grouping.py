"""Groups of tasks that are drawn as one node: by group, else by the stem of their names, else by stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from matterstack.core.identifiers import stem_of
from matterstack.notebook.board import Card

#: What is drawn as one node, as one may ask for it.
COLLAPSE = ("auto", "tasks", "group", "iteration")
#: More nodes than this are too many for a browser.
MOST_NODES = 2000
#: A group that has more tasks than can be drawn opens into ranges of so many.
_RANGE = 500


class Place(NamedTuple):
    """A node that may stand for a task: of its iteration, its group, a range of it, or the task itself."""

    key: str
    label: str
    single: bool = False


class Groups:
    """The places of some tasks, from that of the iteration down to that of the task.

    Parameters
    ----------
    cards : sequence of Card
    layer : sequence of int
        How deep each stands in the graph.
    by_stage : bool
        Whether groups are stages all the same.
    """

    def __init__(self, cards: Sequence[Card], layer: Sequence[int], *, by_stage: bool = False) -> None:
        self.cards = cards
        stems = [stem_of(card.task_id) for card in cards] if not by_stage else [""] * len(cards)
        alike = Counter(
            (card.iteration, stem) for card, stem in zip(cards, stems, strict=True) if stem and not card.group
        )
        members: dict[tuple[int, str], list[int]] = {}
        for number, (card, stem, at) in enumerate(zip(cards, stems, layer, strict=True)):
            name = None if by_stage else card.group or (stem if alike[card.iteration, stem] > 1 else None)
            members.setdefault((card.iteration, name or f"stage {at}"), []).append(number)
        #: The places that tasks may be drawn in, from the coarsest on; and for each task which of these are its.
        self.paths: list[tuple[Place, ...]] = []
        self.of = [0] * len(cards)
        self.sizes: list[int] = []
        for (iteration, name), numbers in members.items():
            whole = Place(f"{iteration}.*", f"iteration {iteration}")
            group = Place(f"{iteration}:{name}", name)
            if len(numbers) == 1 and name != cards[numbers[0]].group:
                self._add((whole,), numbers)  # a group of one says less than its name
            elif len(numbers) <= MOST_NODES:
                self._add((whole, group), numbers)
            else:
                for begin in range(0, len(numbers), _RANGE):
                    some = numbers[begin : begin + _RANGE]
                    label = f"{cards[some[0]].task_id} … {cards[some[-1]].task_id}"
                    self._add((whole, group, Place(f"{group.key}#{begin}", label)), some)

    def _add(self, path: tuple[Place, ...], numbers: Sequence[int]) -> None:
        for number in numbers:
            self.of[number] = len(self.paths)
        self.paths.append(path)
        self.sizes.append(len(numbers))

    def places(self, iterations: Collection[int] | None = None) -> dict[str, Place]:
        """Return all groups by their keys, of some iterations only if one says so."""
        tops = None if iterations is None else {f"{iteration}.*" for iteration in iterations}
        return {place.key: place for path in self.paths if tops is None or path[0].key in tops for place in path}

    def count(self, opened: Collection[str]) -> int:
        """Return how many nodes there are where some groups are open."""
        closed = {place.key for path in self.paths if (place := _closed(path, opened)) is not None}
        alone = (size for path, size in zip(self.paths, self.sizes, strict=True) if _closed(path, opened) is None)
        return len(closed) + sum(alone)

    def drawn(self, opened: Collection[str]) -> list[Place]:
        """Return for each task the node that it is drawn in, where some groups are open."""
        places = [_closed(path, opened) for path in self.paths]
        return [
            places[at] or Place(card.name, card.task_id, True) for card, at in zip(self.cards, self.of, strict=True)
        ]


def _closed(path: Sequence[Place], opened: Collection[str]) -> Place | None:
    """Return the first place of a path that is not open."""
    return next((place for place in path if place.key not in opened), None)
