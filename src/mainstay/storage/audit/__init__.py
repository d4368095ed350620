"""The audit log in SQL: ``append`` inside the transaction that changes state, everything else beside it."""

from mainstay.storage.audit.appending import append
from mainstay.storage.audit.decisions import SqlDecisions, put_decisions
from mainstay.storage.audit.heads import SqlHeads
from mainstay.storage.audit.holds import Hold, bound
from mainstay.storage.audit.log import SqlAudit, scrub

__all__ = ["Hold", "SqlAudit", "SqlDecisions", "SqlHeads", "append", "bound", "put_decisions", "scrub"]
