"""The OpenAPI document against the real server, by schemathesis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.harness import LiveServer, chat_body

CHECKS: list[Callable[..., Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


QUICK = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def try_all(
    server: LiveServer, mode: GenerationMode, path: str = "", fixed: dict[str, Any] | None = None
) -> Counter[int]:
    """Generated requests for every operation under ``path``, with ``fixed`` fields; how many got which status."""
    schema = schemathesis.openapi.from_dict(server.http.get("/openapi.json").json())
    schema.config.update(base_url=server.url)
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.path.startswith(path):
            continue

        @QUICK
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: schemathesis.Case) -> None:
            if fixed is not None and isinstance(case.body, dict):
                case.body |= fixed
            statuses[case.call_and_validate(checks=CHECKS).status_code] += 1

        try:
            run()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing to get wrong
    return statuses


def test_right_requests(server: LiveServer) -> None:
    assert try_all(server, GenerationMode.POSITIVE)[200] >= 5


def test_wrong_requests(server: LiveServer) -> None:
    assert try_all(server, GenerationMode.NEGATIVE)[400] > 10


def test_right_requests_that_reach_the_engine(server: LiveServer) -> None:
    short = chat_body(max_tokens=2, max_completion_tokens=None, min_tokens=0)
    # Some fields are right alone and wrong together, or need the vocabulary.
    assert try_all(server, GenerationMode.POSITIVE, "/v1/chat", short)[200] >= 3


def test_every_route_is_described(server: LiveServer) -> None:
    document = server.http.get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/models", "/v1/models/{name}", "/health", "/metrics"} <= set(document["paths"])
    text = str(document)
    assert "HTTPValidationError" not in text
    names = set(document["components"]["schemas"])
    assert all(part.split("'")[0] in names for part in text.split("#/components/schemas/")[1:])
