"""Transfers between real stores, and what is said when they fail."""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.fixtures.seaweed import ACCESS_KEY, SECRET_KEY
from visionyard import storage
from visionyard.errors import StorageError
from visionyard.storage import base, local

FILES = {"a.txt": b"alpha", "deep/er/b.bin": bytes(range(256)) * 5000, "empty": b"", "ö k+%20.txt": b"odd name"}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 0.01)


@pytest.fixture(params=["path", "file://", "s3://"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, writable address of each kind."""
    if request.param == "s3://":
        return str(request.getfixturevalue("s3")) + "/some/prefix"
    folder = tmp_path / "store"
    return str(folder) if request.param == "path" else folder.as_uri()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_goes_there_and_back(place: str, folder: Path, tmp_path: Path) -> None:
    assert not storage.exists(place)
    assert storage.list_objects(place) == []
    storage.upload_folder(folder, place)
    assert storage.exists(place)
    listed = storage.list_objects(place)
    assert [info.key for info in listed] == sorted(FILES)
    assert {info.key: info.size for info in listed} == {name: len(data) for name, data in FILES.items()}
    storage.fetch_folder(place, tmp_path / "back")
    assert contents(tmp_path / "back") == FILES


def test_single_files(place: str, folder: Path, tmp_path: Path) -> None:
    address = storage.join(place, "x/y.bin")
    storage.write_bytes(address, b"0123456789")
    assert storage.read_bytes(address) == b"0123456789"
    assert storage.read_bytes(address, offset=3, size=4) == b"3456"
    assert storage.read_bytes(address, offset=8, size=10) == b"89"
    assert storage.read_bytes(address, offset=100, size=10) == b""
    assert storage.read_bytes(address, offset=4) == b"456789"
    assert storage.fetch_file(address, tmp_path / "new" / "copy").read_bytes() == b"0123456789"
    assert storage.fetch_file(address, tmp_path).name == "y.bin"
    assert [(info.key, info.size) for info in storage.list_objects(address)] == [("y.bin", 10)]
    storage.upload_file(folder / "a.txt", address)
    assert storage.read_bytes(address) == b"alpha"
    storage.fetch_folder(address, tmp_path / "only")
    assert contents(tmp_path / "only") == {"y.bin": b"alpha"}


def test_delete_takes_what_is_below_and_not_a_neighbour(place: str) -> None:
    for name in ("run-1/a", "run-1/b/c", "run-10/a"):
        storage.write_bytes(storage.join(place, name), b"x")
    assert [info.key for info in storage.list_objects(storage.join(place, "run-1"))] == ["a", "b/c"]
    storage.delete(storage.join(place, "run-1"))
    assert not storage.exists(storage.join(place, "run-1"))
    storage.delete(storage.join(place, "run-1"))
    assert [info.key for info in storage.list_objects(place)] == ["run-10/a"]
    storage.delete(storage.join(place, "run-10/a"))
    assert not storage.exists(storage.join(place, "run-10/a"))


def test_the_digest_follows_the_content(place: str, folder: Path) -> None:
    storage.upload_folder(folder, place)
    before = storage.source_digest(place)
    assert storage.source_digest(place) == before
    storage.write_bytes(storage.join(place, "a.txt"), b"ALPHA")
    changed = storage.source_digest(place)
    assert changed != before
    storage.write_bytes(storage.join(place, "a.txt"), b"alpha")
    assert storage.source_digest(place) == before


def test_a_local_digest_ignores_file_times(folder: Path) -> None:
    before = storage.source_digest(str(folder))
    os.utime(folder / "a.txt", (0, 0))
    assert storage.source_digest(str(folder)) == before
    (folder / "a.txt").rename(folder / "z.txt")
    assert storage.source_digest(str(folder)) != before
    assert storage.source_digest(str(folder / "z.txt")) == hashlib.sha256(b"alpha").hexdigest()


def test_a_second_fetch_skips_whole_files_and_takes_changed_ones(place: str, folder: Path, tmp_path: Path) -> None:
    storage.upload_folder(folder, place)
    back = tmp_path / "back"
    storage.fetch_folder(place, back)
    kept = (back / "a.txt").stat().st_ino
    (back / "empty").unlink()
    (back / "deep/er/b.bin").write_bytes(bytes(len(FILES["deep/er/b.bin"])))  # right size, altered since
    time.sleep(0.01)
    storage.write_bytes(storage.join(place, "ö k+%20.txt"), b"ODD NAME")  # right size, other content in the store
    (back / "stray.txt").write_bytes(b"not in the store")
    storage.fetch_folder(place, back)
    assert (back / "a.txt").stat().st_ino == kept
    expected = {**FILES, "ö k+%20.txt": b"ODD NAME"}
    assert contents(back) == {**expected, "stray.txt": b"not in the store"}
    storage.fetch_folder(place, back, mirror=True)
    assert contents(back) == expected


@pytest.mark.parametrize("call", ["fetch_folder", "fetch_file", "read_bytes", "source_digest"])
def test_nothing_there(place: str, tmp_path: Path, call: str) -> None:
    arguments = [tmp_path / "target"] if call.startswith("fetch") else []
    with pytest.raises(StorageError, match=r"some/prefix/absent|store/absent"):
        getattr(storage, call)(storage.join(place, "absent"), *arguments)
    assert not (tmp_path / "target").exists()


def test_uploading_nothing(place: str, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(StorageError, match="bare: expected files to upload"):
        storage.upload_folder(tmp_path / "bare", place)
    with pytest.raises(StorageError, match="ghost: no such file"):
        storage.upload_file(tmp_path / "ghost", place)
    assert not storage.exists(place)


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


def test_missing_bucket(s3: str, tmp_path: Path) -> None:
    for call in (storage.list_objects, storage.exists, storage.source_digest):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/x at http://.*: there is no such bucket"):
            call("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match="there is no such bucket"):
        storage.read_bytes("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match="there is no such bucket"):
        storage.fetch_folder("s3://no-such-bucket/x", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("variable", "value", "match"),
    [
        pytest.param("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2", "the secret key does not fit", id="wrong secret"),
        pytest.param("AWS_ACCESS_KEY_ID", "nobody-at-all", "the access key is not known", id="wrong user"),
    ],
)
def test_wrong_keys_are_told_without_showing_them(
    s3: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, match: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StorageError, match=match) as caught:
        storage.list_objects(s3)
    assert value not in str(caught.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_anonymous_access_is_denied(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="access was denied; check AWS_ACCESS_KEY_ID"):
        storage.read_bytes(s3 + "/x")


def test_minio_variables_are_read_too(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for old, new in (
        ("AWS_ENDPOINT_URL", "MINIO_ENDPOINT"),
        ("AWS_ACCESS_KEY_ID", "MINIO_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY"),
    ):
        monkeypatch.setenv(new, os.environ[old])
        monkeypatch.delenv(old)
    storage.write_bytes(s3 + "/x", b"1")
    assert storage.read_bytes(s3 + "/x") == b"1"


@pytest.mark.parametrize(
    ("endpoint", "match"),
    [
        pytest.param("minio:9000", r"'minio:9000': expected http://host:port", id="no scheme"),
        pytest.param("http://h/path", "not a usable endpoint", id="with a path"),
        pytest.param("http://no-such-host.invalid:1", "the host name is not known", id="unknown host"),
    ],
)
def test_wrong_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str, match: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=match):
        storage.list_objects("s3://bucket/x")


def test_a_refused_connection(monkeypatch: pytest.MonkeyPatch, unused_address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", unused_address)
    with pytest.raises(StorageError, match=rf"s3://bucket/x at {unused_address}: the connection was refused"):
        storage.list_objects("s3://bucket/x")
    with pytest.raises(StorageError, match=rf"{unused_address}/f: the connection was refused"):
        storage.fetch_file(unused_address + "/f", Path("never"))


@pytest.fixture
def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, silent_address: str) -> None:
    from visionyard.storage import s3_access, web

    short = urllib3.Timeout(connect=0.2, read=0.2)
    monkeypatch.setattr(s3_access, "TIMEOUT", short)
    monkeypatch.setattr(web, "TIMEOUT", short)
    web._pool.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent_address)
    try:
        for address in ("s3://bucket/x", silent_address + "/x"):
            with pytest.raises(StorageError, match=r"nothing was sent for .* s \(5 tries\)"):
                storage.read_bytes(address)
    finally:
        web._pool.cache_clear()


def test_an_endpoint_that_is_not_s3(monkeypatch: pytest.MonkeyPatch, web: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.give("/bucket", b"<html>", Content_Type="text/html", status=403)
    with pytest.raises(StorageError, match="the answer is not S3's"):
        storage.list_objects("s3://bucket/x")


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


# The web.


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


def test_redirects_are_followed_but_not_for_ever(web: Any) -> None:
    web.give("/there", b"found")
    assert storage.read_bytes(web.give("/here", status=302, Location="/there")) == b"found"
    with pytest.raises(StorageError, match="/loop: the address leads on to others without end"):
        storage.read_bytes(web.give("/loop", status=302, Location="/loop"))


def _with_ranges(body: bytes, served: list[str], **headers: str) -> Any:
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
    web.answers["/f"] = _with_ranges(body, served, **headers)
    storage.fetch_file(web.url + "/f", tmp_path / "f")
    assert served[1] == second
    assert contents(tmp_path) == {"f": body}


def test_a_web_file_that_changed_meanwhile_is_fetched_anew(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "TRY_COUNT", 1)
    web.answers["/f"] = _with_ranges(bytes(4 << 20), [], ETag='"v1"')
    with pytest.raises(StorageError, match="broke off"):
        storage.fetch_file(web.url + "/f", tmp_path / "f")
    body = os.urandom(4 << 20)
    web.answers["/f"] = _with_ranges(body, ["an earlier one"], ETag='"v2"')
    storage.fetch_file(web.url + "/f", tmp_path / "f")
    assert contents(tmp_path) == {"f": body}


# Credentials.

KEYS = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
SESSION = {
    "AccessKeyId": ACCESS_KEY,
    "SecretAccessKey": SECRET_KEY,
    "Token": "",
    "Expiration": "2099-01-01T00:00:00Z",
}


@pytest.fixture
def no_keys(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that needs credentials, without any in the environment."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    return s3


@pytest.mark.parametrize("profile", ["", "vision"])
def test_credentials_of_a_mounted_file(
    no_keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    (tmp_path / "mounted").write_text(f"[{profile or 'default'}]\n{KEYS}")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "mounted"))
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    storage.write_bytes(no_keys + "/x", b"1")
    assert storage.read_bytes(no_keys + "/x") == b"1"


def test_credentials_of_the_home_folder(no_keys: str, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{KEYS}")
    storage.write_bytes(no_keys + "/x", b"1")
    assert storage.read_bytes(no_keys + "/x") == b"1"


def test_a_rotated_secret_needs_no_restart(no_keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "mounted"))
    (tmp_path / "mounted").write_text(f"[default]\n{KEYS.replace(SECRET_KEY, 'yesterday')}")
    with pytest.raises(StorageError, match="the secret key does not fit") as caught:
        storage.read_bytes(no_keys + "/x")
    assert "yesterday" not in str(caught.value)
    (tmp_path / "mounted").write_text(f"[default]\n{KEYS}")
    storage.write_bytes(no_keys + "/x", b"1")


def test_credentials_of_a_pod(no_keys: str, web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    web.give("/credentials", json.dumps(SESSION).encode())
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", web.url + "/credentials")
    storage.write_bytes(no_keys + "/x", b"1")
    assert storage.read_bytes(no_keys + "/x") == b"1"
    assert len(web.requests) == 1  # kept until they expire


def test_credentials_of_a_service_account(
    no_keys: str, tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>"
        f"<SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken></SessionToken>"
        "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>"
    )
    asked: list[str] = []
    web.answers["/sts"] = lambda request: (asked.append(request.path), (200, {}, answer.encode()))[1]
    (tmp_path / "token").write_text("a-token-of-the-service-account")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/vision")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url + "/sts")
    storage.write_bytes(no_keys + "/x", b"1")
    assert storage.read_bytes(no_keys + "/x") == b"1"
    assert "WebIdentityToken=a-token-of-the-service-account" in asked[0]
    assert "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fvision" in asked[0]


@pytest.mark.parametrize(
    ("variable", "match"),
    [
        pytest.param("AWS_SHARED_CREDENTIALS_FILE", "absent: gives no credentials for S3: access key", id="file"),
        pytest.param("AWS_WEB_IDENTITY_TOKEN_FILE", "absent: gives no credentials for S3", id="token"),
    ],
)
def test_named_credentials_that_cannot_be_had_are_an_error(
    no_keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, match: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=match):
        storage.read_bytes(no_keys + "/x")


def test_a_file_that_goes_while_a_folder_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_bytes(b"x")
    monkeypatch.setattr(local, "walk_files", lambda folder: iter([folder / "gone.partial", folder / "there"]))
    assert [info.key for info in storage.list_objects(str(tmp_path))] == ["there"]
