"""Make the buckets of the store, their lifecycle, and, on MinIO, the users with no more rights than they need.

Run by a hook job of the chart; running it again changes nothing. Settings come from the environment.
"""

import os
import sys
import time

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.credentials import StaticProvider
from minio.error import MinioException
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, LifecycleConfig, Rule
from minio.minioadmin import MinioAdmin

_READ = ["s3:GetObject"]
_WRITE = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
_LIST = ["s3:ListBucket", "s3:GetBucketLocation"]


def policies(buckets: dict[str, str]) -> dict[str, dict[str, object]]:
    """Return the policy of each user.

    Args:
        buckets: Name of the buckets `runs`, `models` and `mlflow`.

    Returns:
        User to policy document.
    """
    return {
        "pipeline": _policy({buckets["runs"]: _WRITE, buckets["models"]: _WRITE}),
        "serving": _policy({buckets["models"]: _READ}),
        "mlflow": _policy({buckets["mlflow"]: _WRITE}),
    }


def _policy(rights: dict[str, list[str]]) -> dict[str, object]:
    statements = [
        statement
        for bucket, actions in rights.items()
        for statement in (
            {"Effect": "Allow", "Action": _LIST, "Resource": [f"arn:aws:s3:::{bucket}"]},
            {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}/*"]},
        )
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def lifecycle(*, expire_temporary_days: int, abort_uploads_days: int) -> LifecycleConfig | None:
    """Return the rules of the runs bucket.

    Args:
        expire_temporary_days: Days after which objects below tmp/ go; 0: never.
        abort_uploads_days: Days after which unfinished uploads are dropped; 0: never.

    Returns:
        The rules, or None where there are none.
    """
    rules = []
    if expire_temporary_days:
        rules.append(
            Rule(
                ENABLED,
                rule_filter=Filter(prefix="tmp/"),
                rule_id="temporary",
                expiration=Expiration(days=expire_temporary_days),
            )
        )
    if abort_uploads_days:
        rules.append(
            Rule(
                ENABLED,
                rule_filter=Filter(prefix=""),
                rule_id="unfinished-uploads",
                abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(abort_uploads_days),
            )
        )
    return LifecycleConfig(rules) if rules else None


def provision(environment: dict[str, str]) -> list[str]:
    """Set up the store.

    Args:
        environment: The job's environment.

    Returns:
        A line for each thing that is there now.
    """
    kind = environment["STORE_KIND"]
    buckets = {role: environment[f"BUCKET_{role.upper()}"] for role in ("runs", "models", "mlflow")}
    scheme, _, host = environment["AWS_ENDPOINT_URL"].partition("://")
    keys = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    region = environment["AWS_DEFAULT_REGION"]
    pool = urllib3.PoolManager(retries=False, timeout=20)
    client = Minio(host, *keys, secure=scheme == "https", region=region, http_client=pool)
    _await(client, is_external=kind == "external")
    done = []
    for bucket in buckets.values():
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
        done.append(f"bucket {bucket}")
    # MinIO refuses the rule for unfinished uploads: it drops them by itself.
    drops_uploads = kind == "minio" or _is_minio(pool, environment["AWS_ENDPOINT_URL"])
    rules = lifecycle(
        expire_temporary_days=int(environment["EXPIRE_TEMPORARY_DAYS"]),
        abort_uploads_days=0 if drops_uploads else int(environment["ABORT_UPLOADS_DAYS"]),
    )
    if rules is None:
        client.delete_bucket_lifecycle(buckets["runs"])
    else:
        _set_lifecycle(client, buckets["runs"], rules)
        done.append(f"lifecycle of {buckets['runs']}")
    if kind == "minio":
        admin = MinioAdmin(
            endpoint=host, credentials=StaticProvider(*keys), region=region, secure=scheme == "https", http_client=pool
        )
        for user, policy in policies(buckets).items():
            access_key = environment.get(f"{user.upper()}_AWS_ACCESS_KEY_ID")
            if access_key:
                admin.user_add(access_key, environment[f"{user.upper()}_AWS_SECRET_ACCESS_KEY"])
                admin.policy_add(f"visionyard-{user}", policy=policy)
                admin.policy_set(f"visionyard-{user}", user=access_key)
                done.append(f"user {access_key}")
    return done


def _is_minio(pool: urllib3.PoolManager, endpoint: str) -> bool:
    """Return whether the store is MinIO, which an external one may be too; it says so in every answer."""
    return pool.request("GET", endpoint, redirect=False).headers.get("server") == "MinIO"


def _set_lifecycle(client: Minio, bucket: str, rules: LifecycleConfig) -> None:
    try:
        client.set_bucket_lifecycle(bucket, rules)
    except MinioException as error:
        names = ", ".join(str(rule.rule_id) for rule in rules.rules)
        sys.exit(
            f"lifecycle of {bucket}: the store refuses the rules {names}: {error}; leave out what it does not know by "
            "store.provision.abortUploadsDays=0 or store.provision.expireTemporaryDays=0"
        )


def _await(client: Minio, *, is_external: bool, seconds: float = 120) -> None:
    """Wait until the store answers; its pod may still be starting. An external one is there: its refusal is final."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.list_buckets()
            return
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            code = getattr(error, "code", "")
            if code == "AccessDenied":
                return  # It answers; not every administrator of an external store may list all buckets.
            if is_external and code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
                sys.exit(f"the store refuses the keys of store.existingSecrets.root: {error}")
            if time.monotonic() > deadline:
                sys.exit(f"the store does not let us in after {seconds:.0f} s: {error}")
            time.sleep(2)


if __name__ == "__main__":
    for line in provision(dict(os.environ)):
        print(line)
