"""Files behind http and https, from servers of all habits."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import contents
from visionyard import storage
from visionyard.errors import StorageError
from visionyard.storage import base


def test_a_web_file_is_fetched_under_its_name(web: Any, tmp_path: Path) -> None:
    address = web.give("/data/set%201.zip", b"zipped", ETag='"1"')
    assert storage.exists(address)
    assert [(info.key, info.size, info.etag) for info in storage.list_objects(address)] == [("set_1.zip", 6, '"1"')]
    storage.fetch_folder(address, tmp_path / "target")
    assert contents(tmp_path / "target") == {"set_1.zip": b"zipped"}
    web.requests.clear()
    storage.fetch_folder(address, tmp_path / "target")
    assert web.requests == [("HEAD", "/data/set%201.zip")]
    assert storage.read_bytes(address, offset=2, size=3) == b"ppe"  # a server without ranges


def test_a_server_that_fails_twice_is_asked_again(web: Any) -> None:
    left = [503, 500]
    web.answers["/f"] = lambda _: (left.pop(), {}, b"") if left else (200, {}, b"at last")
    assert storage.read_bytes(web.url + "/f") == b"at last"


def test_a_stream_cut_short_leaves_nothing(web: Any, tmp_path: Path) -> None:
    address = web.give("/f", b"half", Content_Length="8")
    with pytest.raises(StorageError, match=r"the connection broke off in the middle \(5 tries\)"):
        storage.fetch_file(address, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "match"),
    [
        pytest.param(404, "answered 404; there is no such file", id="missing"),
        pytest.param(403, "answered 403; access was denied", id="denied"),
        pytest.param(500, "answered 500; try again later", id="broken"),
    ],
)
def test_web_errors_show_no_secret(web: Any, tmp_path: Path, status: int, match: str) -> None:
    address = web.give("/f", status=status).replace("http://", "http://ann:pass-word@") + "?signature=s3cr3t"
    for call in (storage.read_bytes, storage.source_digest, lambda uri: storage.fetch_file(uri, tmp_path / "f")):
        with pytest.raises(StorageError, match=match) as caught:
            call(address)
        assert "pass-word" not in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


def test_user_and_password_of_an_address_are_sent(web: Any) -> None:
    web.answers["/f"] = lambda request: (200, {}, request.headers.get("Authorization", "").encode())
    assert storage.read_bytes(web.url.replace("http://", "http://ann:b%40b@") + "/f") == b"Basic YW5uOmJAYg=="


def test_the_web_is_read_only(web: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    for call in (
        storage.delete,
        lambda u: storage.write_bytes(u, b""),
        lambda u: storage.upload_file(tmp_path / "f", u),
    ):
        with pytest.raises(StorageError, match="a web address is only read"):
            call(web.url + "/f")


OLD = {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Date": "Mon, 01 Jan 2024 00:02:00 GMT"}
FRESH = {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Date": "Mon, 01 Jan 2024 00:00:01 GMT"}


@pytest.mark.parametrize(
    ("headers", "content_is_read"),
    [
        pytest.param({"ETag": '"v1"'}, False, id="strong ETag"),
        pytest.param(OLD, False, id="settled Last-Modified"),
        pytest.param({"ETag": 'W/"v1"'}, True, id="weak ETag alone"),
        pytest.param(FRESH, True, id="Last-Modified of a second ago"),
        pytest.param({"Last_Modified": "yesterday", "Date": "today"}, True, id="unreadable times"),
        pytest.param({}, True, id="nothing"),
    ],
)
def test_what_a_web_digest_rests_on(web: Any, headers: dict[str, str], content_is_read: bool) -> None:
    address = web.give("/f", b"one", **headers)
    before = storage.source_digest(address)
    assert (("GET", "/f") in web.requests) == content_is_read
    assert storage.source_digest(address) == before
    web.give("/f", b"two", **({"ETag": '"v2"'} if headers.get("ETag") == '"v1"' else headers))
    if headers is not OLD:
        assert storage.source_digest(address) != before


def test_a_server_without_head(web: Any, tmp_path: Path) -> None:
    web.answers["/f"] = lambda request: (405, {}, b"") if request.command == "HEAD" else (200, {}, b"body")
    assert storage.source_digest(web.url + "/f") == hashlib.sha256(b"body").hexdigest()
    storage.fetch_folder(web.url + "/f", tmp_path / "t")
    assert contents(tmp_path / "t") == {"f": b"body"}


def test_a_server_without_head_that_leads_on_for_ever(web: Any) -> None:
    web.answers["/f"] = lambda request: (405, {}, b"") if request.command == "HEAD" else (302, {"Location": "/f"}, b"")
    with pytest.raises(StorageError, match="/f: the address leads on to others without end"):
        storage.exists(web.url + "/f")


def test_bytes_are_those_of_the_file_whatever_their_encoding_is_called(web: Any, tmp_path: Path) -> None:
    data = gzip.compress(b"text", mtime=0)
    address = web.give("/f.gz", data, Content_Encoding="gzip")
    assert storage.fetch_file(address, tmp_path / "f.gz").read_bytes() == data
    assert storage.read_bytes(address) == data
    assert storage.read_bytes(address, offset=1, size=3) == data[1:4]


def test_redirects_are_followed_but_not_for_ever(web: Any) -> None:
    web.give("/there", b"found")
    assert storage.read_bytes(web.give("/here", status=302, Location="/there")) == b"found"
    with pytest.raises(StorageError, match="/loop: the address leads on to others without end"):
        storage.read_bytes(web.give("/loop", status=302, Location="/loop"))


def with_ranges(body: bytes, served: list[str], **headers: str) -> Any:
    """A server that gives ranges; its first answer breaks off in the middle."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(request: Any) -> tuple[int, dict[str, str], bytes]:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        is_current = request.headers.get("If-Range") in {None, named.get("ETag"), named.get("Last-Modified")}
        if not start or not is_current:
            start = 0
        served.append(f"{request.headers.get('If-Range')} {start}")
        sent = body[start:] if len(served) > 1 else body[: len(body) // 2]
        return 206 if start else 200, {**named, "Content-Length": str(len(body) - start)}, sent

    return answer


@pytest.mark.parametrize(
    ("headers", "second"),
    [
        pytest.param({"ETag": '"v1"'}, '"v1" 2097152', id="ETag"),
        pytest.param(OLD, "Mon, 01 Jan 2024 00:00:00 GMT 2097152", id="settled date"),
        pytest.param({"ETag": 'W/"v1"'}, "None 0", id="weak ETag"),
        pytest.param({}, "None 0", id="nothing to know it by"),
        pytest.param({"ETag": '"v1"', "Accept_Ranges": "none"}, "None 0", id="no ranges"),
    ],
)
def test_a_web_fetch_that_broke_off_goes_on_when_the_file_is_known_to_be_the_same(
    web: Any, tmp_path: Path, headers: dict[str, str], second: str
) -> None:
    body, served = os.urandom(4 << 20), []
    web.answers["/f"] = with_ranges(body, served, **headers)
    storage.fetch_file(web.url + "/f", tmp_path / "f")
    assert served[1] == second
    assert contents(tmp_path) == {"f": body}


def test_a_web_file_that_changed_meanwhile_is_fetched_anew(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    web.answers["/f"] = with_ranges(bytes(4 << 20), [], ETag='"v1"')
    with pytest.raises(StorageError, match="broke off"):
        storage.fetch_file(web.url + "/f", tmp_path / "f")
    body = os.urandom(4 << 20)
    web.answers["/f"] = with_ranges(body, ["an earlier one"], ETag='"v2"')
    storage.fetch_file(web.url + "/f", tmp_path / "f")
    assert contents(tmp_path) == {"f": body}
