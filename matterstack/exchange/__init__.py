"""Exchange with other workflow tools: their workflows are read, and results are given in their forms.

``ms.exchange`` is this package.
"""

from __future__ import annotations

from matterstack.exchange.ase_database import write_ase_database
from matterstack.exchange.jobflow import read_jobflow
from matterstack.exchange.workflow_definition import read_workflow_definition, write_workflow_definition

__all__ = ["read_jobflow", "read_workflow_definition", "write_ase_database", "write_workflow_definition"]
