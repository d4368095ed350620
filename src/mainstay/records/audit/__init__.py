"""The audit log: events that only grow, in a Merkle tree whose signed heads leave the house."""

from mainstay.records.audit.events import (
    Audit,
    AuditEntry,
    By,
    Event,
    Filters,
    HeadLine,
    Page,
    Proof,
    acting,
    because,
    by_actor,
    whoever_acts,
)
from mainstay.records.audit.heads import Head, Signer
from mainstay.records.audit.reasons import reason

__all__ = [
    "Audit",
    "AuditEntry",
    "By",
    "Event",
    "Filters",
    "Head",
    "HeadLine",
    "Page",
    "Proof",
    "Signer",
    "acting",
    "because",
    "by_actor",
    "reason",
    "whoever_acts",
]
