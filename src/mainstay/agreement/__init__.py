"""What we promise and permit. ``terms`` is the content of ``agreement.yaml``; the rest are pure rules over it; money and counts
go through ports."""

from mainstay.agreement.terms import Agreement, CitationRules, RequestLimits

__all__ = ["Agreement", "CitationRules", "RequestLimits"]
