"""Addresses that name nothing, or lead elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from visionyard import storage
from visionyard.errors import StorageError


@pytest.mark.parametrize(
    ("address", "match"),
    [
        pytest.param("", "the address is empty", id="empty"),
        pytest.param("gs://bucket/x", "gs://bucket/x: expected a path, s3://", id="unknown scheme"),
        pytest.param("s3:///x", "s3:///x: names no bucket", id="no bucket"),
        pytest.param("file://host/x", "names the host 'host'", id="file on a host"),
        pytest.param("http:///x", "names no host", id="no host"),
    ],
)
def test_wrong_addresses(address: str, match: str) -> None:
    with pytest.raises(StorageError, match=match):
        storage.list_objects(address)


def test_a_hostile_listing_cannot_leave_the_folder(monkeypatch: pytest.MonkeyPatch, web: Any, tmp_path: Path) -> None:
    listing = (
        b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
        b"<Prefix>x/</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents>"
        b"<Key>x/../../evil</Key><Size>1</Size><ETag>e</ETag></Contents></ListBucketResult>"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.give("/bucket", listing, Content_Type="application/xml")
    with pytest.raises(StorageError, match=r"the key '\.\./\.\./evil' is no path below a folder"):
        storage.fetch_folder("s3://bucket/x", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
