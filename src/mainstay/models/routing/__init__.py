"""Routing: which model is asked, whether its draft is good enough, and what happens when it is not."""

from mainstay.models.routing.agreeing import Said, agreement
from mainstay.models.routing.calibration import Calibration, brier, calibration_error, fitted, risk_threshold
from mainstay.models.routing.features import Traits, traits_of
from mainstay.models.routing.quality import Learned, QualityModel, Rules, Upkeep, Upkept, kept_or, unpacked
from mainstay.models.routing.router import (
    AGREES,
    MIN_SECONDS,
    Candidate,
    Choice,
    Constraints,
    Decision,
    DraftLook,
    Plan,
    Router,
    Second,
    draft_score,
)

__all__ = [
    "AGREES",
    "MIN_SECONDS",
    "Calibration",
    "Candidate",
    "Choice",
    "Constraints",
    "Decision",
    "DraftLook",
    "Learned",
    "Plan",
    "QualityModel",
    "Router",
    "Rules",
    "Said",
    "Second",
    "Traits",
    "Upkeep",
    "Upkept",
    "agreement",
    "brier",
    "calibration_error",
    "draft_score",
    "fitted",
    "kept_or",
    "risk_threshold",
    "traits_of",
    "unpacked",
]
