"""The chart's service accounts on a real API server: each may do what its table says and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import Namespace, kubectl

pytestmark = pytest.mark.cluster

RIGHTS = Path(__file__).parents[1] / "charts" / "rbac.yaml"
CHART = Path(__file__).parents[2] / "charts" / "visionyard"
HELM = Path(sys.executable).with_name("helm")
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]
# Beside what the table names: what a curious account would try.
SENSITIVE = [
    ("", "secrets"),
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "persistentvolumeclaims"),
    ("apps", "statefulsets"),
    ("batch", "jobs"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("networking.k8s.io", "networkpolicies"),
]

Right = tuple[str, str, str, str]


def account_of(account: str) -> str:
    """Return the name of a service account."""
    return f"visionyard-{account}"


def allowed_rights() -> set[Right]:
    """Return the table as account, group, resource, verb."""
    table = yaml.safe_load(RIGHTS.read_text())
    return {
        (account, group, resource, verb)
        for account, rows in table.items()
        for group, resource, verbs in rows
        for verb in verbs
    }


@pytest.fixture(scope="module")
def accounts(make_namespace: Callable[..., Namespace]) -> Namespace:
    """Return a namespace with the chart's accounts, roles and bindings, those of a multi-user Kubeflow too."""
    if not HELM.exists():
        pytest.skip(f"needs {HELM}: make .venv/bin/helm")
    namespace = make_namespace()
    shown = [f"--show-only=templates/access/{name}.yaml" for name in ("accounts", "roles")]
    values = ["--set=kfp.endpoint=http://kfp:8888", f"--set=kfp.namespace={namespace.name}"]
    command = [HELM, "template", "visionyard", CHART, "--namespace", namespace.name]
    done = subprocess.run([*command, *shown, *values], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    namespace.apply(*filter(None, yaml.safe_load_all(done.stdout)))
    return namespace


def answers(namespace: Namespace, asked: list[Right], *, elsewhere: str = "") -> set[Right]:
    """Return those of the rights that the API server grants, as `kubectl auth can-i --as` would say, in one call."""
    reviews = []
    for account, group, named, verb in asked:
        kind, _, rest = named.partition("/")
        # In the table `pods/log` is a subresource, `secrets/x` one object: these have names of Kubernetes' own.
        is_part = rest in {"exec", "log", "token", "versions"}
        attributes = {"namespace": elsewhere or namespace.name, "group": group, "verb": verb, "resource": kind}
        attributes |= {"subresource" if is_part else "name": rest} if rest else {}
        user = f"system:serviceaccount:{namespace.name}:{account_of(account)}"
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes},
            }
        )
    listed = {"apiVersion": "v1", "kind": "List", "items": reviews}
    shown = r'jsonpath={.status.allowed}{"\n"}'
    told = kubectl("create", "-f", "-", "-o", shown, stdin=json.dumps(listed), timeout_s=240).split()
    return {right for right, is_allowed in zip(asked, told, strict=True) if is_allowed == "true"}


def test_each_account_may_do_what_its_table_says_and_nothing_else(accounts: Namespace) -> None:
    allowed = allowed_rights()
    names = sorted(yaml.safe_load(RIGHTS.read_text()))
    resources = sorted({(group, resource) for _account, group, resource, _verb in allowed} | set(SENSITIVE))
    verbs = sorted({verb for *_rest, verb in allowed} | set(VERBS))
    matrix = [(account, *resource, verb) for account, resource, verb in product(names, resources, verbs)]

    assert answers(accounts, matrix) == allowed


def test_no_account_may_do_anything_in_another_namespace(accounts: Namespace) -> None:
    assert answers(accounts, sorted(allowed_rights()), elsewhere="kube-system") == set()


@pytest.fixture(scope="module")
def acting(
    accounts: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a function that runs kubectl with an account's own token and nothing else."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    config: dict[str, Any] = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))

    def act(account: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        path = folder / f"{account}.json"
        if not path.exists():
            token = accounts.kubectl("create", "token", account_of(account)).strip()
            users = [{"name": config["users"][0]["name"], "user": {"token": token}}]
            path.write_text(json.dumps({**config, "users": users}))
        command = ["kubectl", f"--kubeconfig={path}", "--namespace", accounts.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return act


def test_the_deployer_makes_reads_and_removes_a_deployment(accounts: Namespace, acting: Callable[..., Any]) -> None:
    image = "localhost/none:0"
    made = acting("deployer", "create", "deployment", "server", f"--image={image}", "--replicas=0")
    assert made.returncode == 0, made.stderr
    read = acting("deployer", "get", "deployment,pods,events")
    assert "server" in read.stdout, read.stderr
    removed = acting("deployer", "delete", "deployment", "server")
    assert removed.returncode == 0, removed.stderr
    assert accounts.get("deployment", "server") == {}


@pytest.mark.parametrize(
    ("account", "arguments"),
    [
        pytest.param("deployer", ("get", "secrets"), id="the deployer reads no secret"),
        pytest.param("deployer", ("create", "job", "x", "--image=x"), id="the deployer starts no job"),
        pytest.param("pipeline", ("get", "pods"), id="a stage sees no pod"),
        pytest.param("pipeline", ("get", "secret", "visionyard-store-root"), id="a stage reads no other secret"),
        pytest.param("serving", ("get", "configmaps"), id="a server asks for nothing"),
        pytest.param("receiver", ("get", "deployments"), id="the receiver sees no deployment"),
        pytest.param("schedules", ("create", "configmap", "x"), id="the schedules make nothing of the cluster's"),
        pytest.param("platform", ("get", "services"), id="the platform's pods ask for nothing"),
    ],
)
def test_a_real_call_beyond_it_is_forbidden(
    account: str, arguments: tuple[str, ...], acting: Callable[..., Any]
) -> None:
    refused = acting(account, *arguments)
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr.lower(), refused.stderr
