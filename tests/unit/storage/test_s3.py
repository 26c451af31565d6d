"""What S3 alone has to get right."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from visionyard import storage


def test_bytes_are_those_of_the_object_whatever_their_encoding_is_called(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `aws s3 cp --content-encoding gzip` leaves it."""
    data = gzip.compress(bytes(10_000), mtime=0)
    web.give("/bucket/f.gz", data, Content_Encoding="gzip", ETag=f'"{hashlib.md5(data).hexdigest()}"')
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    assert storage.fetch_file("s3://bucket/f.gz", tmp_path / "f.gz").read_bytes() == data
    assert storage.read_bytes("s3://bucket/f.gz") == data
