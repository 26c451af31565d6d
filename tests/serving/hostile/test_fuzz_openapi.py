"""schemathesis on the server's own OpenAPI document: a few examples of each operation, always the same ones.

`benchmarks/hostile.py` has the long form.
"""

import contextlib
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 4
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# A model that is unloaded would be missing in what follows; what else unload does wrong shows in load.
LEFT_OUT = "/unload"


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Any:
    load_all_checks()
    return schemathesis.openapi.from_dict(http.get("/openapi.json").json())


def operations(document: Any) -> list[Any]:
    found = [result.ok() for result in document.get_all_operations()]
    return [operation for operation in found if not operation.path.endswith(LEFT_OUT)]


def test_the_document_has_the_routes_that_matter(document: Any) -> None:
    paths = {operation.path for operation in operations(document)}
    assert {"/predict", "/predict/image", "/v2/models/{model_name}/infer", "/models", "/health"} <= paths
    assert len(paths) >= 12


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("names", ["any model", "a model that is there"])
def test_no_operation_fails_on_what_its_document_allows_or_forbids(
    document: Any, server: Any, mode: Any, names: str
) -> None:
    """Answers have a documented status, the right media type and shape; none is the server's fault."""
    fixed = {"model_name": "boxes", "model_version": "1"} if names == "a model that is there" else None
    with requests.Session() as session:
        for operation in operations(document):
            parameters = {name: value for name, value in (fixed or {}).items() if f"{{{name}}}" in operation.path}
            if fixed and not parameters:
                continue
            try_examples(operation, mode, server.url, session, parameters or None)


def try_examples(operation: Any, mode: Any, url: str, session: requests.Session, parameters: Any) -> None:
    @seed(20)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode, path_parameters=parameters))
    def send(case: Any) -> None:
        answer = case.call(base_url=url, session=session, timeout=20)
        assert "Traceback" not in answer.text
        # 501 is what the protocol's versions of models get, which nobody here has.
        assert answer.status_code < 500 or answer.status_code == 501, answer.text
        case.validate_response(answer, checks=CHECKS)

    # Where an operation takes no input there is none that its document forbids.
    with contextlib.suppress(Unsatisfiable):
        send()
