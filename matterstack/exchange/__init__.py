"""Exchange with other workflow tools: their workflows are read, and results are given in their forms.

``ms.exchange`` is this package.
"""

from __future__ import annotations

from matterstack.exchange.ase_database import write_ase_database
from matterstack.exchange.jobflow import read_jobflow

__all__ = ["read_jobflow", "write_ase_database"]
