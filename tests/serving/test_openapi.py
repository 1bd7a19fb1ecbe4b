"""The OpenAPI document is true: what it promises holds for whatever schemathesis makes of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from mien.serving.app import create
from mien.serving.options import Options, StreamOptions, VideoOptions, schema
from mien.serving.settings import Limits, Settings
from mien.types import json_schema

DOCUMENT = create(Settings(threads=1)).openapi()


OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_nothing_makes_it_fail(operation: Any, server: Any) -> None:
    """No 5xx, no answer that the document does not promise, no body that its schema does not describe."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def answers_as_promised(case: Any) -> None:
        case.call_and_validate(base_url=server.url, excluded_checks=[positive_data_acceptance])

    answers_as_promised()


def test_schemas_are_those_of_the_dataclasses() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    result = json_schema()
    assert schemas["Result"]["properties"].keys() == result["properties"].keys()
    assert schemas["Face"]["required"] == result["$defs"]["Face"]["required"]
    assert schemas["Options"] == schema(Options) and schemas["VideoOptions"] == schema(VideoOptions)
    assert schemas["StreamOptions"] == schema(StreamOptions)
    assert schema(Options)["properties"]["max_faces"]["default"] is None
    paths = {"/v1/predict", "/v1/predict/video", "/v1/jobs/{number}", "/v1/jobs/{number}/results", "/v1/models", "/v1/schema",
             "/healthz", "/readyz", "/metrics"}  # fmt: skip
    assert paths <= DOCUMENT["paths"].keys()


def test_the_document_is_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_limits_are_above_zero() -> None:
    with pytest.raises(Exception, match="queue"):
        Limits(queue=0)
