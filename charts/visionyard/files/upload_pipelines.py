"""Compile pipelines and upload each as a version named after the package. Usage: upload_pipelines.py PROFILE NAME..."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from visionyard import __version__

PROFILES = Path("/etc/visionyard/profiles")


def connect() -> Any:
    """Return `kfp.Client` for the address in KF_PIPELINES_ENDPOINT, with the account's token where one is mounted.

    Raises:
        SystemExit: Nothing answers there.
    """
    import kfp
    import urllib3
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    # By itself the client reads the token only where no address is given.
    is_signed_in = "KF_PIPELINES_SA_TOKEN_PATH" in os.environ
    try:
        return kfp.Client(credentials=ServiceAccountTokenVolumeCredentials() if is_signed_in else None)
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        address = os.environ["KF_PIPELINES_ENDPOINT"]
        sys.exit(
            f"kfp.endpoint = {address}: expected the API of Kubeflow Pipelines there, which does not answer: {error}"
        )


def upload(client: Any, name: str, package: str, version: str, namespace: str | None = None) -> str:
    """Upload one pipeline unless this version of it is there.

    Args:
        client: `kfp.Client`.
        name: Name of the pipeline.
        package: Path of the compiled pipeline.
        version: Name of the version.
        namespace: Of a multi-user Kubeflow.

    Returns:
        A line on what was done.
    """
    equal = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
    # Not get_pipeline_id: that looks among the pipelines which all namespaces share, and finds none of a namespace.
    known = client.list_pipelines(filter=json.dumps(equal), namespace=namespace).pipelines
    if known:
        pipeline_id = known[0].pipeline_id
    else:
        # The first upload makes a version of the pipeline's own name; ours follows.
        pipeline_id = client.upload_pipeline(package, pipeline_name=name, namespace=namespace).pipeline_id
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline_id, page_size=100, page_token=token)
        if version in {found.display_name for found in page.pipeline_versions or []}:
            return f"{name}: version {version} is there"
        token = page.next_page_token
        if not token:
            break
    client.upload_pipeline_version(package, pipeline_version_name=version, pipeline_id=pipeline_id)
    return f"{name}: version {version} uploaded"


def main(profile: str, names: list[str]) -> None:
    """Compile and upload.

    Args:
        profile: A shipped profile, or one of the chart's ConfigMap.
        names: Pipelines.
    """
    from visionyard.cli.compile import compile_pipeline

    own = PROFILES / f"{profile}.yaml"
    client = connect()
    namespace = os.environ.get("KF_PIPELINES_NAMESPACE")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            package = Path(folder) / f"{name}.yaml"
            compile_pipeline(name, package, profile=str(own) if own.exists() else profile)
            print(upload(client, name, str(package), f"{__version__}-{profile}", namespace))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
