"""The OpenAPI document holds for every request that schemathesis generates from it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from mien.errors import ConfigError
from mien.serving.admission import POLICY
from mien.serving.app import DOCS_POLICY, create
from mien.serving.schemas import Options, VideoOptions
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
    assert schemas["Options"]["properties"] == Options.model_json_schema()["properties"]
    assert schemas["VideoOptions"]["properties"]["smooth"]["enum"] == ["none", "ema", "box", "gaussian"]
    assert VideoOptions().start == 0 and schemas["VideoOptions"]["additionalProperties"] is False
    paths = {"/v1/predict", "/v1/predict/video", "/v1/jobs/{job}", "/v1/jobs/{job}/results", "/v1/models", "/v1/schema",
             "/healthz", "/readyz", "/metrics"}  # fmt: skip
    assert paths <= DOCUMENT["paths"].keys()


def test_the_document_is_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT
    page = client.get("/docs")
    assert page.status_code == 200 and "unsafe" not in DOCS_POLICY.split("style-src")[0]
    assert page.headers["content-security-policy"] == DOCS_POLICY != POLICY
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):  # nothing from other hosts
        assert asset.startswith("/") and client.get(asset).status_code == 200


def test_limits_are_above_zero() -> None:
    with pytest.raises(ConfigError) as error:
        Limits(queue=0)
    assert error.value.value == 0
