"""A small part of ``bench/alerts.py``: the simulated rules are the rules, and they hold what the documents say of them."""

from __future__ import annotations

import pytest
from bench.alerts import SEED, false_alarms, incident, same_rules


@pytest.mark.parametrize(("target", "rate"), [(0.999, 300), (0.99, 5), (0.95, 300), (0.9, 20_000)])
def test_the_simulation_keeps_the_rules_of_the_service(target: float, rate: int) -> None:
    print("seed", SEED)
    assert same_rules(target, rate, samples=150) == 0


@pytest.mark.parametrize(("target", "rate"), [(0.999, 5), (0.95, 300), (0.9, 300)])
def test_an_outage_is_found_within_the_hour(target: float, rate: int) -> None:
    print("seed", SEED)
    ours, plain = incident(target, rate, "all", runs=4)
    assert ours.paged == 4
    assert ours.page_minutes is not None
    assert ours.page_minutes <= 60
    if target < 0.95:
        assert plain.page_minutes is None or plain.page_minutes > ours.page_minutes, "the first trap"


def test_a_healthy_service_wakes_nobody() -> None:
    """With five requests an hour and 99.9 % the plain rules page for single failures."""
    print("seed", SEED)
    alarms = false_alarms(0.999, 5, runs=6, days=28)
    assert alarms[False][0] == 0
    assert alarms[True][0] > 0, "the second trap"
