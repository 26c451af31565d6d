"""How an S3 server is reached: its endpoint, the credentials and the region, all from the environment.

Credentials, the first that are there:

1. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; or MINIO_ACCESS_KEY and MINIO_SECRET_KEY
2. the file that AWS_SHARED_CREDENTIALS_FILE names, such as a mounted secret, else ~/.aws/credentials; AWS_PROFILE
3. AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN: the role of a Kubernetes service account, exchanged at
   AWS_ENDPOINT_URL_STS, else at the S3 endpoint itself (MinIO) or at AWS
4. AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI: the role of an ECS task or an EKS pod
5. the role of the EC2 instance, where the endpoint is AWS and AWS_EC2_METADATA_DISABLED is not true

Without any, requests are anonymous, as a public bucket takes them. Files and tokens are read anew when they expire, so
a rotated secret needs no restart.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import urllib3
from minio import Minio
from minio.credentials.providers import AWSConfigProvider, IamAwsProvider, Provider, StaticProvider
from urllib3.exceptions import HTTPError

from visionyard.errors import StorageError
from visionyard.storage.base import TIMEOUT

AWS_ENDPOINT = "https://s3.amazonaws.com"
# Answers within milliseconds where there is one; elsewhere nothing does, and a public bucket should not wait for it.
_INSTANCE_TIMEOUT_S = 0.5
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_DISABLED",
    "HOME",
)


@dataclass(frozen=True)
class Access:
    """A client, and what belongs into messages about it."""

    client: Any
    endpoint: str
    provider: Provider | None

    def scrubbed(self, text: str) -> str:
        """Return a text without keys and tokens."""
        if self.provider is None:
            return text
        try:
            credentials = self.provider.retrieve()
        except (ValueError, OSError, HTTPError):
            return text
        for secret in (credentials.secret_key, credentials.session_token, credentials.access_key):
            text = text.replace(secret, "***") if secret else text
        return text


def open_access() -> Access:
    """Return the client that the environment asks for; one a process and set of variables.

    Raises:
        StorageError: The endpoint is not usable, or credentials that are named cannot be had.
    """
    endpoint = _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MINIO_ENDPOINT") or AWS_ENDPOINT
    if not endpoint.startswith(("http://", "https://")):
        raise StorageError(
            f"AWS_ENDPOINT_URL or MINIO_ENDPOINT = {endpoint!r}: expected http://host:port or https://host:port"
        )
    region = _variable("AWS_DEFAULT_REGION", "AWS_REGION")
    if not region and endpoint != AWS_ENDPOINT:
        region = "us-east-1"  # what other servers expect; asking them for it needs a right that users often lack
    settings = tuple((name, value) for name in _VARIABLES if (value := os.environ.get(name, "").strip()))
    return _access(os.getpid(), endpoint, region, settings)


def _variable(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


@cache
def _access(_pid: int, endpoint: str, region: str, settings: tuple[tuple[str, str], ...]) -> Access:
    """Make a client; a forked process has its own, since connections must not be shared."""
    provider = _provider(endpoint, region, dict(settings))
    scheme, _, host = endpoint.partition("://")
    pool = urllib3.PoolManager(
        timeout=TIMEOUT,
        retries=False,
        maxsize=32,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
    try:
        client = Minio(
            host.rstrip("/"),
            credentials=provider,
            secure=scheme == "https",
            region=region or None,
            http_client=pool,
        )
    except ValueError as error:
        raise StorageError(f"{endpoint}: not a usable endpoint: {error}") from None
    return Access(client, endpoint, provider)


def _provider(endpoint: str, region: str, variables: Mapping[str, str]) -> Provider | None:
    """Return where credentials come from; None for anonymous requests."""
    key = variables.get("AWS_ACCESS_KEY_ID") or variables.get("MINIO_ACCESS_KEY")
    secret = variables.get("AWS_SECRET_ACCESS_KEY") or variables.get("MINIO_SECRET_KEY")
    if key and secret:
        return StaticProvider(key, secret, variables.get("AWS_SESSION_TOKEN"))
    named = variables.get("AWS_SHARED_CREDENTIALS_FILE", "")
    if named or (Path.home() / ".aws" / "credentials").is_file():
        source = named or "~/.aws/credentials"
        return _tried(AWSConfigProvider(named or None, variables.get("AWS_PROFILE")), source)
    if token_file := variables.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        sts = variables.get("AWS_ENDPOINT_URL_STS") or ("" if endpoint == AWS_ENDPOINT else endpoint)
        return _tried(IamAwsProvider(custom_endpoint=sts or None, region=region or None), token_file)
    for name in ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        if name in variables:
            return _tried(IamAwsProvider(), f"{name}={variables[name]}")
    if endpoint == AWS_ENDPOINT and variables.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        pool = urllib3.PoolManager(timeout=_INSTANCE_TIMEOUT_S, retries=False)
        try:
            IamAwsProvider(http_client=pool).retrieve()
        except (ValueError, OSError, HTTPError):
            return None  # no EC2 instance, or one without a role
        return IamAwsProvider()
    return None


def _tried(provider: Provider, source: str) -> Provider:
    """Return a provider that gives credentials now.

    Raises:
        StorageError: It does not.
    """
    try:
        provider.retrieve()
    except (ValueError, OSError, HTTPError) as error:
        raise StorageError(f"{source}: gives no credentials for S3: {error}") from None
    return provider
