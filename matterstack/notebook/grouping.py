"""Groups of tasks that are drawn as one node: by group, else by the stem of their names, else by stage."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from matterstack.core.identifiers import stem_of
from matterstack.notebook.board import Tasks

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
    tasks : Tasks
    chosen : sequence of int
        Which of them, by their places in the columns.
    layer : sequence of int
        How deep each of these stands in the graph.
    by_stage : bool
        Whether groups are stages all the same.

    Attributes
    ----------
    paths : list of tuple of Place
        The places that tasks may be drawn in, from the coarsest on.
    members : list of array of int
        For each path the tasks whose it is, by their numbers among the chosen ones.
    of : array of int
        For each of the chosen tasks, which of the paths is its.
    """

    def __init__(self, tasks: Tasks, chosen: Sequence[int], layer: Sequence[int], *, by_stage: bool = False) -> None:
        self.tasks = tasks
        self.chosen = chosen
        self.paths: list[tuple[Place, ...]] = []
        self.members: list[array[int]] = []
        self.of = array("i", bytes(4 * len(chosen)))
        members: dict[tuple[int, str], array[int]] = {}
        names = self._stages(layer) if by_stage else self._groups(layer)
        iterations = tasks.iterations
        for number, key in enumerate(zip(map(iterations.__getitem__, chosen), names, strict=True)):
            if (some := members.get(key)) is None:
                some = members[key] = array("i")
            some.append(number)
        for (iteration, name), numbers in members.items():
            whole = Place(f"{iteration}.*", f"iteration {iteration}")
            group = Place(f"{iteration}:{name}", name)
            if len(numbers) == 1 and name != tasks.groups[chosen[numbers[0]]]:
                self._add((whole,), numbers)  # a group of one says less than its name
            elif len(numbers) <= MOST_NODES:
                self._add((whole, group), numbers)
            else:
                for begin in range(0, len(numbers), _RANGE):
                    some = numbers[begin : begin + _RANGE]
                    label = f"{self._name(some[0])} … {self._name(some[-1])}"
                    self._add((whole, group, Place(f"{group.key}#{begin}", label)), some)

    def _stages(self, layer: Sequence[int]) -> Iterator[str]:
        return (f"stage {at}" for at in layer)

    def _groups(self, layer: Sequence[int]) -> Iterator[str]:
        """Yield the group of each task: its own, else the stem of its name where others have it, else its stage."""
        tasks = self.tasks
        groups = list(map(tasks.groups.__getitem__, self.chosen))
        stems = {
            number: (tasks.iterations[place], stem_of(tasks.names[place]))
            for number, (place, group) in enumerate(zip(self.chosen, groups, strict=True))
            if not group
        }
        alike = Counter(stems.values())
        for number, group in enumerate(groups):
            if not group:
                _, stem = stems[number]
                group = stem if stem and alike[stems[number]] > 1 else f"stage {layer[number]}"
            yield group

    def _name(self, number: int) -> str:
        return self.tasks.names[self.chosen[number]]

    def _add(self, path: tuple[Place, ...], numbers: array[int]) -> None:
        for number in numbers:
            self.of[number] = len(self.paths)
        self.paths.append(path)
        self.members.append(numbers)

    def alone(self, number: int) -> Place:
        """Return the node of a task that is drawn by itself."""
        place = self.chosen[number]
        return Place(self.tasks.name(place), self.tasks.names[place], True)

    def places(self, iterations: Collection[int] | None = None) -> dict[str, Place]:
        """Return all groups by their keys, of some iterations only if one says so."""
        tops = None if iterations is None else {f"{iteration}.*" for iteration in iterations}
        return {place.key: place for path in self.paths if tops is None or path[0].key in tops for place in path}

    def count(self, opened: Collection[str]) -> int:
        """Return how many nodes there are where some groups are open."""
        drawn = self.drawn(opened)
        alone = (len(some) for place, some in zip(drawn, self.members, strict=True) if place is None)
        return len(set(drawn) - {None}) + sum(alone)

    def drawn(self, opened: Collection[str]) -> list[Place | None]:
        """Return for each path the node of its tasks where some groups are open; None where each has its own."""
        return [next((place for place in path if place.key not in opened), None) for path in self.paths]
