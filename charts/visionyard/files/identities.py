"""Write SeaweedFS's file of users from the environment: each with no more rights than it needs."""

import json
import os
import sys
from pathlib import Path


def identities(environment: dict[str, str]) -> dict[str, object]:
    """Return the content of SeaweedFS's `-s3.config` file.

    Args:
        environment: The container's environment: buckets and keys.

    Returns:
        Users whose keys are in the environment, with their actions.
    """
    runs, models, mlflow = (environment[f"BUCKET_{role}"] for role in ("RUNS", "MODELS", "MLFLOW"))
    actions = {
        "root": ["Admin", "Read", "Write", "List", "Tagging"],
        "pipeline": [f"{verb}:{bucket}" for bucket in (runs, models) for verb in ("Read", "Write", "List")],
        "serving": [f"Read:{models}", f"List:{models}"],
        "mlflow": [f"{verb}:{mlflow}" for verb in ("Read", "Write", "List")],
    }
    users = []
    for user, allowed in actions.items():
        access_key = environment.get(f"{user.upper()}_AWS_ACCESS_KEY_ID")
        if access_key:
            secret_key = environment[f"{user.upper()}_AWS_SECRET_ACCESS_KEY"]
            credentials = [{"accessKey": access_key, "secretKey": secret_key}]
            users.append({"name": user, "credentials": credentials, "actions": allowed})
    return {"identities": users}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(identities(dict(os.environ))), encoding="utf-8")
