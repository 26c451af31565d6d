"""Where credentials come from, and that no message shows them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.s3_server import ACCESS_KEY, SECRET_KEY
from visionyard import storage
from visionyard.errors import StorageError

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
