"""The campaign by pyiron_workflow: results are kept by fleche in files, and the same command goes on."""

from __future__ import annotations

import copper
import fleche
import flowrep as fr
import pyiron_workflow as pwf
from ase import Atoms
from ase.io.jsonio import encode
from fleche.caches import Cache
from fleche.digest import add_hook, digest

add_hook((Atoms, lambda atoms: digest(encode(atoms))))


@fr.atomic
@fleche.fleche
def energy(atoms):
    return copper.energy(atoms)


@fr.atomic
def missing(atoms):
    return None


@fr.atomic
@fleche.fleche
def fit(members):
    return copper.fit(members)


@fr.workflow
def campaign(cells):
    members = []
    for atoms in cells:
        try:
            member = energy(atoms)
        except Exception:
            member = missing(atoms)
        members.append(member)
    result = fit(members)
    return result  # noqa: RET504 the output is called by this name


def failed(run):
    return [step.exception for step in run.steps if step.exception] + [e for step in run.steps for e in failed(step)]


if __name__ == "__main__":
    config = pwf.RunConfig(fleche_cache=Cache.from_config({"template": "cloudpickle", "root": "cache"}))
    run = pwf.node(campaign).run(config, cells=list(copper.cells().values()))
    print("fit:", run.outputs.result)
    print("failed:", failed(run))
