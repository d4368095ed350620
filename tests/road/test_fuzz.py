"""Our own OpenAPI document, and what a generator makes of it: no server error, and every answer as documented."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance
from schemathesis.core.result import Ok

from mainstay.web.server import create_api
from tests.road.conftest import Service

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
EXAMPLES = {GenerationMode.POSITIVE: 9, GenerationMode.NEGATIVE: 6}


@pytest.mark.long
def test_whatever_is_sent(service: Service) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_api(service.app))
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 14
    for operation in operations:
        for mode, examples in EXAMPLES.items():
            with suppress(*_nothing_wrong(mode)):  # an address that takes nothing can not be given anything wrong
                _sent(operation, mode, examples, service.headers("hugo"))


def _nothing_wrong(mode: GenerationMode) -> tuple[type[Exception], ...]:
    return (Unsatisfiable,) if mode is GenerationMode.NEGATIVE else ()


def _sent(operation: Any, mode: GenerationMode, examples: int, headers: dict[str, str]) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    one()
