"""The campaign by redun: ``redun run peer_redun.py main``, and the same command goes on."""

from __future__ import annotations

import copper
from redun import catch, task

redun_namespace = "copper"


@task
def energy(atoms):
    return copper.energy(atoms)


@task
def missing(error):
    return None


@task
def fit(members):
    return copper.fit(members)


@task
def main():
    members = [catch(energy(atoms), Exception, missing) for atoms in copper.cells().values()]
    return fit(members)
