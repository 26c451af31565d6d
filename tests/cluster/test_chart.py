"""The chart on a real cluster: installed, tested, upgraded, rolled back, uninstalled, twice side by side.

| variable | means |
| --- | --- |
| VISIONYARD_TEST_MINIO | image of MinIO; unset: only SeaweedFS is tried |
| VISIONYARD_TEST_SEAWEEDFS | image of SeaweedFS |
| VISIONYARD_TEST_POSTGRES, VISIONYARD_TEST_MLFLOW | images of both, built from tests/cluster/images |

Images of Visionyard are named as in `visionyard.components._images`.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import make_chart
from tests.charts.test_chart import ROWS, settings_of
from tests.cluster.kube import Namespace, kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.slow, pytest.mark.timeout(1800)]

RBAC = make_chart.ROOT / "tests/charts/rbac.yaml"
# Things that no account of the chart may do.
FORBIDDEN = [
    ("get", "", "secrets"),
    ("list", "", "secrets"),
    ("create", "", "pods"),
    ("create", "", "pods/exec"),
    ("create", "rbac.authorization.k8s.io", "roles"),
    ("delete", "", "persistentvolumeclaims"),
    ("list", "", "nodes"),
]


def helm(*arguments: str, timeout_s: float = 900) -> str:
    """Run helm and return what it says."""
    if not make_chart.HELM.exists():
        pytest.skip(f"needs {make_chart.HELM}: make .venv/bin/helm")
    done = subprocess.run([make_chart.HELM, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", params=["minio", "seaweedfs"])
def values(request: pytest.FixtureRequest, data_image: str, serve_image: str, tmp_path_factory: Any) -> Path:
    """Return a values file with images that the cluster has, or skip."""
    variables = {name: f"VISIONYARD_TEST_{name.upper()}" for name in (request.param, "postgres", "mlflow")}
    missing = [variable for variable in variables.values() if not os.environ.get(variable)]
    if missing:
        pytest.skip(f"needs the image names {', '.join(missing)} (tests/cluster/images)")
    images = {name: os.environ[variable] for name, variable in variables.items()}
    registry, _, tag = data_image.rpartition(":")
    content = {
        "image": {"data": registry, "serve": serve_image.rpartition(":")[0], "tag": tag},
        "store": {
            "kind": request.param,
            request.param: {"image": images[request.param]},
            "persistence": {"size": "1Gi"},
        },
        "mlflow": {"image": images["mlflow"]},
        "postgresql": {"image": images["postgres"], "persistence": {"size": "1Gi"}},
    }
    path: Path = tmp_path_factory.mktemp("values") / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _in_pod(namespace: Namespace, script: str) -> str:
    """Run Python in MLflow's pod, which has boto3 and the keys of MLflow's bucket."""
    return namespace.kubectl("exec", "deploy/visionyard-mlflow", "--", "python3", "-c", script, timeout_s=120)


_CLIENT = (
    "import boto3, os; s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL']); "
    "bucket = 'visionyard-mlflow'; "
)


def _experiments(namespace: Namespace) -> list[str]:
    query = (
        "import json, urllib.request as r; "
        "q = r.Request('http://localhost:5000/api/2.0/mlflow/experiments/search', "
        "data=json.dumps({'max_results': 100}).encode(), headers={'Content-Type': 'application/json'}); "
        "print(json.dumps([e['name'] for e in json.load(r.urlopen(q))['experiments']]))"
    )
    found: list[str] = json.loads(_in_pod(namespace, query))
    return found


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the chart packaged as an earlier version."""
    folder = tmp_path_factory.mktemp("previous")
    helm("package", str(make_chart.CHART), "--version", "0.0.9", "--destination", str(folder))
    return folder / "visionyard-0.0.9.tgz"


def test_the_life_of_a_release(values: Path, previous: Path, make_namespace: Callable[[], Namespace]) -> None:
    namespace = make_namespace()
    common = ("visionyard", "--namespace", namespace.name)
    wait = ("--values", str(values), "--wait", "--timeout", "14m")

    helm("install", *common[:1], str(previous), *common[1:], *wait)
    helm("test", *common, "--timeout", "10m")
    _in_pod(namespace, _CLIENT + "s3.put_object(Bucket=bucket, Key='kept', Body=b'before')")
    keys = namespace.get("secret", "visionyard-s3")["data"]

    helm("upgrade", *common[:1], str(make_chart.CHART), *common[1:], *wait)
    read = _in_pod(namespace, _CLIENT + "print(s3.get_object(Bucket=bucket, Key='kept')['Body'].read().decode())")
    assert read.strip() == "before"
    assert "visionyard-helm-test" in _experiments(namespace)
    assert namespace.get("secret", "visionyard-s3")["data"] == keys
    helm("test", *common, "--timeout", "10m")

    helm("rollback", "visionyard", "1", *common[1:], "--wait", "--timeout", "14m")
    assert "visionyard-helm-test" in _experiments(namespace)

    helm("uninstall", *common, "--wait", "--timeout", "5m")
    kept = {item["metadata"]["name"] for item in namespace.list("persistentvolumeclaims")}
    assert kept == {"visionyard-store", "visionyard-postgresql"}
    assert not namespace.list("deployments") + namespace.list("statefulsets") + namespace.list("jobs")


@pytest.fixture
def two(values: Path, make_namespace: Callable[[], Namespace]) -> list[Namespace]:
    """Return two namespaces with the chart's light parts, applied but not waited for."""
    made = [make_namespace(), make_namespace()]
    for namespace in made:
        helm(
            "install", "visionyard", str(make_chart.CHART), "--namespace", namespace.name, "--values", str(values),
            "--no-hooks", "--set", "mlflow.enabled=false",
        )  # fmt: skip
    return made


def test_two_installs_do_not_collide_and_their_accounts_may_do_what_the_table_says(two: list[Namespace]) -> None:
    table = yaml.safe_load(RBAC.read_text(encoding="utf-8"))
    first, second = two
    asked = []
    for account, rights in table.items():
        for group, resource, verbs in rights:
            # KFP's own resources are granted in multi-user mode only, which this install has not.
            is_granted = group != "pipelines.kubeflow.org"
            for verb in verbs:
                asked.append((is_granted, _review(first, first, account, verb, group, resource)))
                asked.append((False, _review(first, second, account, verb, group, resource)))
        asked += [(False, _review(first, first, account, *right)) for right in FORBIDDEN]

    answers = _answers([review for _, review in asked])

    wrong = [review["spec"] for (expected, review), got in zip(asked, answers, strict=True) if expected != got]
    assert not wrong


def _review(owner: Namespace, place: Namespace, account: str, verb: str, group: str, resource: str) -> dict[str, Any]:
    """Return the question whether an account of one namespace may do something in another."""
    plain, _, rest = resource.partition("/")
    # A second part is a subresource, but for the kinds of which the table names one object.
    part = "name" if plain in {"configmaps", "secrets"} else "subresource"
    attributes = {"namespace": place.name, "verb": verb, "group": group, "resource": plain, part: rest}
    user = f"system:serviceaccount:{owner.name}:visionyard-{account}"
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes},
    }


def _answers(reviews: list[dict[str, Any]]) -> list[bool]:
    """Ask the API server all questions in one call, and return whether each is allowed."""
    text = "".join(f"---\n{json.dumps(review)}\n" for review in reviews)
    answer = kubectl("create", "-f", "-", "-o", "jsonpath={.status.allowed}{'\\n'}", stdin=text, timeout_s=300)
    return [line == "true" for line in answer.split()]


def _dry_run(namespace: Namespace, items: list[dict[str, Any]]) -> None:
    known = set(kubectl("api-resources", "--output=name").split())
    groups = {name.partition(".")[2] for name in known}
    # A bare pod needs its account to be there, which a dry run does not make; its spec is that of the jobs.
    kept = [
        item
        for item in items
        if item["kind"] != "Pod" and (("." not in item["apiVersion"]) or item["apiVersion"].partition("/")[0] in groups)
    ]
    for item in kept:
        if "namespace" in item["metadata"]:
            item["metadata"]["namespace"] = namespace.name
    text = "".join(f"---\n{yaml.safe_dump(item)}" for item in kept)
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=text, timeout_s=300)


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_every_pair_of_switches_is_accepted(number: int, module_namespace: Namespace) -> None:
    _dry_run(module_namespace, make_chart.render(settings_of(ROWS[number])))


@pytest.mark.parametrize("overlay", ["standalone", "kubeflow", "test"])
def test_every_overlay_is_accepted(overlay: str, module_namespace: Namespace) -> None:
    text = subprocess.run(
        ["kubectl", "kustomize", make_chart.ROOT / "manifests/overlays" / overlay],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    items = [item for item in yaml.safe_load_all(text) if item["kind"] != "Namespace"]
    _dry_run(module_namespace, items)
