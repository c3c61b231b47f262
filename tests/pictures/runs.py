"""The runs that the pictures of the pages show. `make.py` runs this file as the cell of a notebook."""

import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.optimize import BFGS

import matterstack as ms

matplotlib.use("agg")
METALS = ["Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"]
BOTH = {"local": ms.LocalOperator(max_active=4), "human": ms.HumanOperator()}


def until(run, *tasks):
    """Step a run until tasks of its iteration are over."""
    while not set(tasks) <= set(run.tasks.query("iteration == @run.iteration and ended_at.notna()")["task_id"]):
        run.step()


# Functions: calls of three functions, of which the last ones are under way.
def relax(atoms, fmax_eV_per_A=0.001, steps=200):
    atoms.calc = EMT()
    relaxation = BFGS(FrechetCellFilter(atoms), logfile=None)
    relaxation.attach(lambda: print(f"step {relaxation.nsteps}: {atoms.get_potential_energy():.6f} eV", flush=True))
    if not relaxation.run(fmax=fmax_eV_per_A, steps=steps):
        raise RuntimeError(f"no convergence after {steps} steps")
    atoms.write("final.xyz")
    return atoms


def curve(atoms, points=7):
    volumes_A3, energies_eV = [], []
    for relative_volume in np.linspace(0.94, 1.06, points):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * relative_volume ** (1 / 3), scale_atoms=True)
        strained.calc = EMT()
        volumes_A3.append(strained.get_volume() / len(atoms))
        energies_eV.append(strained.get_potential_energy() / len(atoms))
    return {"volumes_A3_per_atom": volumes_A3, "energies_eV_per_atom": energies_eV}


def fit(points):
    state = EquationOfState(points["volumes_A3_per_atom"], points["energies_eV_per_atom"], eos="birchmurnaghan")
    volume_A3, energy_eV, modulus_eV_per_A3 = state.fit()
    return {
        "lattice_constant_A": (4 * volume_A3) ** (1 / 3),
        "bulk_modulus_GPa": modulus_eV_per_A3 / units.GPa,
        "energy_eV_per_atom": energy_eV,
    }


def equations_of_state(metals, run_id, points=7, **settings):
    flow = ms.Workflow()
    relaxed = flow.map(relax, {metal: bulk(metal) for metal in metals})
    flow.map(fit, flow.map(curve, relaxed, points=points))
    return ms.initialize_run("equations_of_state", flow, run_id=run_id, **settings)


def two_fits():
    """The same fits twice, by other points: they are compared."""
    for run_id, points in (("seven-points", 7), ("five-points", 5)):
        equations_of_state(METALS[:2], run_id, points).wait()


def metals():
    run = equations_of_state(METALS, "metals", operators={"local": ms.LocalOperator(max_active=2)})
    until(run, "fit-Al", "fit-Ni")


# A campaign in its second iteration: one failed, one runs, a person is waited for.
def anneal(atoms, T_K=600):
    atoms = atoms * (3, 3, 3)
    atoms.calc = EMT()
    dynamics = Langevin(atoms, 5 * units.fs, temperature_K=T_K, friction=0.02 / units.fs, rng=np.random.default_rng(1))
    for _ in range(1000):
        dynamics.run(5)
        print(f"{dynamics.get_time() / units.fs:8.0f} fs  {atoms.get_temperature():6.1f} K", flush=True)
        time.sleep(0.5)


class Alloys(ms.Campaign):
    def initial_state(self):
        return 0

    def plan(self, finer):
        flow = ms.Workflow()
        for metal in ("Al", "Cu", "Ni", "Pd"):
            is_far = finer == 1 and metal == "Pd"
            task = ms.task(group="relax", allow_failure=True)(relax)
            begin = bulk(metal, a=5.0) if is_far else bulk(metal)
            atoms = flow.add(f"relax-{metal}", task, begin, 0.1 ** (5 * finer + 1), steps=6 if is_far else 200)
            last = anneal if finer == 1 and metal == "Cu" else fit
            given = atoms if last is anneal else flow.add(f"curve-{metal}", ms.task(group="curve")(curve), atoms)
            flow.add(f"{last.__name__}-{metal}", ms.task(group="fit")(last), given)
        if finer == 1:
            choices = {"type": "string", "enum": ["Al", "Cu", "Ni"]}
            schema = {"type": "object", "required": ["metal"], "properties": {"metal": choices}}
            asked = "Which **metal** goes to the laboratory?"
            flow.add_task(ms.Task("choose", operator="human", instructions=asked, schema=schema, assignee="Ada"))
            flow.add_task(ms.Task("order", "true", dependencies=["choose"]))
        return flow

    def analyze(self, finer, results):
        return finer + 1


def alloys():
    run = ms.initialize_run("alloys", Alloys(), run_id="alloys", operators=BOTH)
    while run.iteration < 1:
        run.wait(timeout_s=1)
    until(run, "fit-Al", "fit-Ni", "relax-Cu", "relax-Pd")
    run.step()


# Twelve commands, and three hundred.
def surfaces():
    flow = ms.Workflow()
    for metal in ("Cu", "Ag", "Pd", "Au"):
        slab = "echo 'step 1: -3.41 eV'; echo 'step 2: -3.54 eV'; "
        slab += {"Pd": "echo 'no convergence' >&2; exit 3", "Au": "sleep 1800"}.get(metal, "true")
        flow.add_task(ms.Task(f"bulk-{metal}", "sleep 1800" if metal == "Au" else "true"))
        flow.add_task(ms.Task(f"slab-{metal}", slab, allow_failure=True))
        flow.add_task(ms.Task(f"surface-{metal}", "true", dependencies=[f"bulk-{metal}", f"slab-{metal}"]))
    flow.add_task(ms.Task("choose", operator="human", instructions="Which surface?"))
    until(ms.initialize_run("surfaces", flow, run_id="surfaces", operators=BOTH), "surface-Cu", "surface-Ag", "slab-Pd")


def hundreds():
    flow = ms.Workflow()
    for number in range(150):
        flow.add_task(ms.Task(f"relax-{number:03}", "exit 3" if number % 17 == 8 else "true", allow_failure=True))
        flow.add_task(ms.Task(f"bands-{number:03}", "true", dependencies=[f"relax-{number:03}"]))
    bands = [f"bands-{number:03}" for number in range(150)]
    flow.add_task(ms.Task("compare", "true", dependencies=bands, allow_dependency_failure=True))
    ms.initialize_run("hundreds", flow, run_id="hundreds", operators=BOTH).wait()


# Films whose gap and strength are looked for, as a model of them has it.
def grow(T_K, pressure_Pa, gas):
    draw = np.random.default_rng(int(1e6 * T_K)).normal
    ordered = np.exp(-(((T_K - 640) / 160) ** 2)) * (1.15 if gas == "Ar" else 1.0)
    gap_eV = 0.4 + 1.5 * ordered + 0.12 * draw()
    strength_MPa = 240 - 95 * ordered - 25 * np.log10(pressure_Pa) + 12 * draw()
    return {"gap_eV": gap_eV, "strength_MPa": strength_MPa}


def films():
    Real, Choice = ms.optimizers.Real, ms.optimizers.Choice
    pressure_Pa = Real(1e-2, 1e2, log=True)
    space = ms.optimizers.Space({"T_K": Real(300, 900), "pressure_Pa": pressure_Pa, "gas": Choice(["Ar", "N2"])})
    flow = ms.Workflow()
    for number, point in enumerate(ms.optimizers.Sobol(space).suggest(120)):
        flow.add(f"film-{number:03}", grow, **point)
    config = {"target": {"gap_eV": "max", "strength_MPa": "max"}}
    ms.initialize_run("films", flow, run_id="films", config=config).wait()


# A request, and what it shows.
def survey():
    import pandas as pd

    lengths_A = np.linspace(3.5, 3.8, 4)
    cells = [bulk("Cu", a=length, cubic=True) for length in lengths_A]
    for cell in cells:
        cell.symbols[0] = "Au"
        cell.calc = EMT()
    energies_eV = [cell.get_potential_energy() for cell in cells]
    cells[int(np.argmin(energies_eV))].write("cell.xyz")
    figure, axis = plt.subplots(figsize=(4, 2.6), layout="constrained")
    axis.plot(lengths_A, energies_eV, "o-")
    axis.set(xlabel="a (Å)", ylabel="energy (eV)")
    figure.savefig("energy.png")
    pd.DataFrame({"a_A": lengths_A, "energy_eV": energies_eV}).to_csv("energies.csv", index=False)


def samples():
    flow = ms.Workflow()
    flow.add("survey", survey)
    sample = {"sample": {"type": "string"}, "gap_eV": {"type": "number", "minimum": 0, "unit": "eV"},
              "phase": {"enum": ["cubic", "tetragonal"]}, "pure": {"type": "boolean"}}  # fmt: skip
    rows = {"type": "object", "required": ["sample", "gap_eV"], "properties": sample}
    ways = {"type": "array", "items": {"enum": ["Cu3Au", "CuAu", "CuAu3"]}, "minItems": 1, "maxItems": 2}
    schema = {"type": "object", "required": ["carry_on", "samples"], "properties": {
        "carry_on": {**ways, "title": "carry on with"},
        "temperature_K": {"type": "number", "minimum": 4, "maximum": 300, "title": "temperature", "unit": "K"},
        "samples": {"type": "array", "minItems": 2, "items": rows},
    }}  # fmt: skip
    text = "# Which samples shall be grown?\n\nTick **one or two**, and read the gaps off the spectra:\n\n"
    text += "1. cool to 77 K\n2. read off the onset"
    show = [ms.FromTask("survey", name) for name in ("cell.xyz", "energy.png", "energies.csv")]
    flow.add_task(ms.Task("pick", operator="human", instructions=text, schema=schema, show=show, assignee="Ada"))
    ms.initialize_run("samples", flow, run_id="samples", operators=BOTH).wait()


# A workspace with runs that stand in all ways.
def cathodes():
    for place, name in enumerate(["LiCoO2", "LiNiO2", "LiMnO2", "LiFeO2", "LiTiO2", "LiVO2", "LiCrO2", "LiCuO2"]):
        flow = ms.Workflow()
        for number in range(6 + place):
            command = "exit 3" if place == 3 and number == 4 else "true"
            flow.add_task(ms.Task(f"relax-{number}", command, group="relax"))
            slow = "sleep 1800" if place in (1, 5) and number % 3 == 2 else "true"
            flow.add_task(ms.Task(f"bands-{number}", slow, group="bands", dependencies=[f"relax-{number}"]))
        if place in (1, 2):
            flow.add_task(ms.Task("pick", operator="human", instructions="Which one?", assignee="Ada"))
        run = ms.initialize_run("cathodes", flow, run_id=f"{name}-screen", operators=BOTH)
        if place in (0, 3, 6):
            run.wait()
        elif place in (1, 2, 5):
            until(run, "bands-0", "bands-1", "bands-3")
        elif place == 4:
            run.step()
            run.pause("the furnace is being calibrated")


for made in (surfaces, cathodes, hundreds, alloys, metals, samples, two_fits, films):
    began = time.time()
    made()
    print(made.__name__, f"{time.time() - began:.0f} s", flush=True)
print("all are made")
