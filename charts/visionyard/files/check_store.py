"""Write an object, read it back, delete it, with the keys of a stage. Usage: check_store.py BUCKET."""

import io
import os
import sys
import uuid

import urllib3
from minio import Minio


def main(bucket: str) -> None:
    """Check the store with the keys of the environment.

    Args:
        bucket: Bucket that stages write to.
    """
    scheme, _, host = os.environ["AWS_ENDPOINT_URL"].partition("://")
    client = Minio(
        host,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_DEFAULT_REGION"],
        secure=scheme == "https",
        http_client=urllib3.PoolManager(retries=False, timeout=20),
    )
    key, content = f"tmp/helm-test-{uuid.uuid4().hex}", os.urandom(1 << 20)
    client.put_object(bucket, key, io.BytesIO(content), len(content))
    answer = client.get_object(bucket, key)
    try:
        if answer.read() != content:
            sys.exit(f"s3://{bucket}/{key}: read other bytes than were written")
    finally:
        answer.close()
        client.remove_object(bucket, key)
    print(f"s3://{bucket}: 1 MiB written, read, deleted")


if __name__ == "__main__":
    main(sys.argv[1])
