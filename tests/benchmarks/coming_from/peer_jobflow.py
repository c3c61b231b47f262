"""The campaign by jobflow: outputs are kept in a store of files. ASE's Atoms travel as ASE's JSON."""

from __future__ import annotations

import copper
from ase.io.jsonio import decode, encode
from jobflow import Flow, JobStore, OnMissing, job, run_locally
from maggma.stores import JSONStore


@job
def energy(cell):
    made = copper.energy(decode(cell))
    return {**made, "atoms": encode(made["atoms"])}


@job
def fit(members):
    return copper.fit([member and {**member, "atoms": decode(member["atoms"])} for member in members])


if __name__ == "__main__":
    members = [energy(encode(atoms)) for atoms in copper.cells().values()]
    last = fit([member.output for member in members])
    last.config.on_missing_references = OnMissing.NONE
    store = JobStore(JSONStore("outputs.json", read_only=False))
    responses = run_locally(Flow([*members, last]), store=store)
    print("fit:", responses[last.uuid][1].output)
    print("failed:", [job.uuid for job in members if job.uuid not in responses])
