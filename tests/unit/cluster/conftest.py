"""What the tests of the cluster share."""

from collections.abc import Iterator

import pytest

from tests.fixtures.kfp_stub import KfpStub, kfp_stub


@pytest.fixture
def stub() -> Iterator[KfpStub]:
    """A stand-in of the API server of Kubeflow Pipelines."""
    with kfp_stub() as served:
        yield served
