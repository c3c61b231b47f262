"""The campaign: a coarse look at all cathodes, a person's pick, a fine look at what was picked, an approval."""

import matterstack as ms
from battery_screening.functions import chart, relax, tabulate, voltages
from battery_screening.structures import layered, lithium_metal, metal_fractions

COARSE_EV_PER_A, FINE_EV_PER_A = 0.1, 0.03
CONTENTS = {"lithiated": 1.0, "half": 0.5, "delithiated": 0.0}

QUESTION = """# Which cathodes are worth the fine calculation?

Pick **one to four**. Each is relaxed again to forces below {fine} eV/Å (now {coarse} eV/Å), and once more with half of
its lithium.

- `voltages.png`: the average voltage against lithium metal, in V, and the change of volume when all lithium leaves, in
  per cent; at this force limit the volumes are a hint, and no more
- `cathodes.csv`: all numbers. Magnetic moments are those that CHGNet predicts, in Bohr magnetons a metal atom;
  `mixing` is how far a mixture lies above the line between its metals, in meV a formula unit: below zero it is stable
  against them
- `layers.xyz`: each crystal with all of its lithium, from the side: layers of metal, oxygen (red), lithium (violet)
"""

APPROVAL = """# Are these fit to be reported?

`cathodes.csv` has the fine calculations of what was picked: average voltage, the two steps at half lithium (V), change
of volume (%).
"""


class BatteryScreening(ms.Campaign):
    """Screen layered cathodes by voltage.

    Parameters
    ----------
    candidates : list of str
        The metals of each cathode, such as "Co" or "Ni0.5Co0.5".
    """

    def __init__(self, candidates):
        self.candidates = list(candidates)

    def initial_state(self):
        return {"picked": None, "approved": None}

    def plan(self, state):
        if state["approved"] is not None:
            return None
        return self.coarse() if state["picked"] is None else self.fine(state["picked"])

    def analyze(self, state, results):
        if state["picked"] is None:
            return {**state, "picked": results["pick"].data["cathodes"]}
        return {**state, "approved": results["approve"].data["decision"] == "approve"}

    def coarse(self):
        flow = ms.Workflow()
        lithium = flow.add("lithium", relax, lithium_metal(), COARSE_EV_PER_A)
        states = {
            state: flow.map(
                relax, {m: layered(m, CONTENTS[state]) for m in self.candidates}, COARSE_EV_PER_A, name=state
            )
            for state in ("lithiated", "delithiated")
        }
        self.tabulated(flow, self.candidates, lithium, states)
        return flow.add_task(
            ms.Task(
                "pick",
                operator="human",
                assignee="the battery chemist",
                instructions=QUESTION.format(coarse=COARSE_EV_PER_A, fine=FINE_EV_PER_A),
                schema=self.answer(),
                show=[
                    ms.FromTask("chart", "voltages.png"),
                    ms.FromTask("table", "cathodes.csv"),
                    *(ms.FromTask(f"lithiated-{metals}", "layers.xyz") for metals in self.candidates),
                ],
            )
        )

    def fine(self, picked):
        # The line that a mixture is held against has to be as fine as the mixture.
        ends = {metal for metals in picked for metal in metal_fractions(metals)} & set(self.candidates)
        cathodes = [metals for metals in self.candidates if metals in picked or metals in ends]
        flow = ms.Workflow()
        lithium = flow.add("lithium", relax, lithium_metal(), FINE_EV_PER_A)
        states = {
            state: flow.map(
                relax,
                {m: flow.reference(f"{state}-{m}", iteration=0)["structure"] for m in cathodes},
                FINE_EV_PER_A,
                name=state,
            )
            for state in ("lithiated", "delithiated")
        }
        states["half"] = flow.map(
            relax, {m: layered(m, CONTENTS["half"]) for m in cathodes}, FINE_EV_PER_A, name="half"
        )
        self.tabulated(flow, cathodes, lithium, states)
        return flow.add_task(
            ms.Task(
                "approve",
                operator="human",
                assignee="the group leader",
                instructions=APPROVAL,
                schema=ms.Approve(),
                show=[ms.FromTask("chart", "voltages.png"), ms.FromTask("table", "cathodes.csv")],
            )
        )

    def answer(self):
        """Return the schema of the pick."""
        return {
            "type": "object",
            "properties": {
                "cathodes": {
                    "type": "array",
                    "items": {"enum": self.candidates},
                    "minItems": 1,
                    "maxItems": 4,
                    "uniqueItems": True,
                },
                "why": {"type": "string"},
            },
            "required": ["cathodes"],
            "additionalProperties": False,
        }

    def tabulated(self, flow, cathodes, lithium, states):
        """Add what makes a table and a chart of relaxed crystals."""
        found = {
            metals: flow.add(
                f"voltages-{metals}", voltages, metals, lithium, **{state: of[metals] for state, of in states.items()}
            )
            for metals in cathodes
        }
        table = flow.add("table", ms.task(tabulate, outputs=["cathodes.csv"]), found)
        flow.add("chart", ms.task(chart, outputs=["voltages.png"], env={"MPLBACKEND": "agg"}), table)
