"""The chart, rendered: what it makes for the defaults, the examples and each pair of switches, held to the schemas."""

import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import make_chart

pytestmark = pytest.mark.helm

EXAMPLES = sorted((make_chart.CHART / "examples").glob("*.yaml"))
_KFP = {"kfp.endpoint": "http://kfp:8888"}
_RECEIVER = {"receiver.enabled": "true", "receiver.config.models.digits.run_name": "digits"}
_SCHEDULES = {
    "schedules.enabled": "true",
    "schedules.file.group": "team",
    "schedules.configs.run\\.yaml.name": "digits",
}
_OWN_KEYS = {f"store.existingSecrets.{user}": f"{user}-keys" for user in ("pipeline", "serving", "mlflow")}
# Switches and their settings; every pair of settings of two switches is rendered together at least once.
SWITCHES: dict[str, list[dict[str, str]]] = {
    "store": [{}, {"store.kind": "seaweedfs"}, {"store.kind": "external", "store.endpoint": "https://s3", **_OWN_KEYS}],
    "mlflow": [
        {},
        {"mlflow.enabled": "false"},
        {"postgresql.enabled": "false", "postgresql.existingSecret": "database"},
    ],
    "server": [
        {},
        {"serving.server.enabled": "true", "serving.server.model": "s3://b/m", "serving.server.replicas": "2"},
        {
            "serving.server.enabled": "true",
            "serving.server.model": "s3://b/m",
            "serving.server.autoscaling.enabled": "true",
        },
    ],
    "kfp": [
        {},
        {**_KFP, **_RECEIVER},
        {**_KFP, **_RECEIVER, **_SCHEDULES, "kfp.namespace": "team", "pipelines.upload": "true"},
    ],
    "kserve": [{}, {"serving.runtimes.enabled": "always", "serving.runtimes.torchscriptImage": "t:1"}],
    "monitoring": [
        {},
        {
            "monitoring.serviceMonitors": "always",
            "monitoring.rules": "always",
            "monitoring.pushgateway.enabled": "true",
        },
    ],
    "policies": [
        {},
        {"networkPolicies.enabled": "false"},
        {"networkPolicies.wholeNamespace": "true", "resourceQuota.enabled": "true", "limitRange.enabled": "true"},
    ],
    "security": [
        {},
        {"podSecurity.platformAssignsIds": "true", "image.pullSecrets[0]": "registry"},
        {"uninstall.keepData": "false", "priorityClasses.create": "true", "store.provision.enabled": "false"},
    ],
    "rights": [{}, {"rbac.create": "false"}, {"rbac.kubeflow": "false", "tests.enabled": "false"}],
}


def pairwise(switches: dict[str, list[dict[str, str]]]) -> list[dict[str, int]]:
    """Return rows, switch to number of its setting, in which every two settings of two switches meet."""
    open_pairs = {
        (a, x, b, y)
        for a, b in combinations(switches, 2)
        for x in range(len(switches[a]))
        for y in range(len(switches[b]))
    }
    rows = []
    while open_pairs:
        first_a, first_x, first_b, first_y = min(open_pairs)
        row = {first_a: first_x, first_b: first_y}
        for name, settings in switches.items():
            if name not in row:
                gains = [
                    sum((*sorted_pair,) in open_pairs for sorted_pair in _pairs(row, name, number, list(switches)))
                    for number in range(len(settings))
                ]
                row[name] = gains.index(max(gains))
        open_pairs -= {pair for name in row for pair in _pairs(row, name, row[name], list(switches))}
        rows.append(row)
    return rows


def _pairs(row: dict[str, int], name: str, number: int, order: list[str]) -> Iterator[tuple[str, int, str, int]]:
    for other, other_number in row.items():
        if other != name:
            before = order.index(other) < order.index(name)
            yield (other, other_number, name, number) if before else (name, number, other, other_number)


ROWS = pairwise(SWITCHES)


def settings_of(row: dict[str, int]) -> dict[str, str]:
    """Return the values of a row of the pairwise table."""
    return {key: value for name, number in row.items() for key, value in SWITCHES[name][number].items()}


def _render_file(helm: Path, example: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [helm, "template", "visionyard", make_chart.CHART, "--namespace", "team", "--values", example],
        capture_output=True,
        text=True,
        check=True,
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


@pytest.fixture(scope="module")
def rendered(helm: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of the defaults, of each example and of each row of the pairwise table."""
    made = {"defaults": make_chart.render({})}
    made |= {example.stem: _render_file(helm, example) for example in EXAMPLES}
    made |= {f"row {number}": make_chart.render(settings_of(row)) for number, row in enumerate(ROWS)}
    return made


def _pod_specs(items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in items:
        name = "/".join(make_chart.identity(item))
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif item["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield name, item["spec"]["template"]["spec"]


def _containers(items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, pod in _pod_specs(items):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name} {container['name']}", pod, container


def test_the_pairwise_table_holds_every_pair() -> None:
    names = list(SWITCHES)
    met = {(a, row[a], b, row[b]) for row in ROWS for a, b in combinations(names, 2)}

    assert len(met) == sum(len(SWITCHES[a]) * len(SWITCHES[b]) for a, b in combinations(names, 2))
    assert len(ROWS) < 20


def test_lint_finds_nothing(helm: Path) -> None:
    done = subprocess.run([helm, "lint", "--strict", make_chart.CHART], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_every_object_fits_its_schema(
    rendered: dict[str, list[dict[str, Any]]], check_schema: Callable[[dict[str, Any]], bool]
) -> None:
    unchecked = {item["kind"] for items in rendered.values() for item in items if not check_schema(item)}

    assert unchecked <= {"ExternalSecret", "ServingRuntime", "ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_names_are_unique_and_every_object_is_labelled_and_in_its_namespace(
    rendered: dict[str, list[dict[str, Any]]],
) -> None:
    for case, items in rendered.items():
        names = [make_chart.identity(item) for item in items]
        assert len(names) == len(set(names)), case
        for item in items:
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "visionyard", names
            assert labels["app.kubernetes.io/component"], item
            assert ("namespace" in item["metadata"]) == (item["kind"] != "PriorityClass"), item


def test_every_container_asks_for_what_it_needs_and_may_do_no_more(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for case, items in rendered.items():
        for name, pod, container in _containers(items):
            where = f"{case}: {name}"
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, where
            assert "memory" in container["resources"]["limits"], where
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where
            assert pod["securityContext"]["runAsNonRoot"] is True, where
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert pod["automountServiceAccountToken"] is False, where
            assert not container["image"].endswith(":latest"), where


def test_every_service_is_probed(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for item in rendered["everything"]:
        if item["kind"] in {"Deployment", "StatefulSet"}:
            for container in item["spec"]["template"]["spec"]["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), make_chart.identity(item)


def test_a_pod_that_never_came_up_is_replaced_by_an_upgrade(rendered: dict[str, list[dict[str, Any]]]) -> None:
    sets = [item for items in rendered.values() for item in items if item["kind"] == "StatefulSet"]

    # In the default order the controller waits for the broken pod, whatever the template says now.
    assert {item["spec"].get("podManagementPolicy") for item in sets} == {"Parallel"}


def test_everything_that_is_named_is_there(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for case, items in rendered.items():
        there = {make_chart.identity(item) for item in items}
        for name, pod in _pod_specs(items):
            assert ("ServiceAccount", pod["serviceAccountName"]) in there, f"{case}: {name}"
            for volume in pod.get("volumes", []):
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in there, f"{case}: {name}"
                if "persistentVolumeClaim" in volume:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there


def test_every_secret_that_is_read_is_made_or_given(rendered: dict[str, list[dict[str, Any]]]) -> None:
    given = {"pipeline-keys", "serving-keys", "mlflow-keys", "database", "server-keys"}
    for case, items in rendered.items():
        there = {item["metadata"]["name"] for item in items if item["kind"] in {"Secret", "ExternalSecret"}} | given
        for name, pod, container in _containers(items):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["name"] in there, f"{case}: {name}: {reference}"
            for volume in pod.get("volumes", []):
                assert "secret" not in volume or volume["secret"]["secretName"] in there, f"{case}: {name}"


def test_no_secret_stands_in_an_argument_or_a_plain_variable(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for items in rendered.values():
        for name, _, container in _containers(items):
            words = [*container.get("command", []), *container.get("args", [])]
            values = [variable.get("value", "") for variable in container.get("env", []) if "value" in variable]
            assert not [
                word
                for word in [*words, *values]
                if "postgresql://" in word or ("secret" in word.lower() and not word.startswith("/"))
            ], name


TYPOS = [
    pytest.param("serving.replcas=2", "serving", id="a leaf"),
    pytest.param("strore.kind=minio", "strore", id="a section"),
    pytest.param("store.minio.resources.limit.cpu=1", "/store/minio/resources", id="inside resources"),
    pytest.param("store.kind=ceph", "/store/kind", id="an unknown choice"),
    pytest.param("serving.server.replicas=two", "/serving/server/replicas", id="a wrong type"),
    pytest.param("serving.server.settings.TYPO=1", "/serving/server/settings", id="a setting of another program"),
    pytest.param("rbac.annotations.pipelin.a=b", "/rbac/annotations", id="an unknown account"),
]


@pytest.mark.parametrize(("setting", "place"), TYPOS)
def test_a_typo_is_refused_with_its_path(helm: Path, setting: str, place: str) -> None:
    done = subprocess.run(
        [helm, "template", "v", make_chart.CHART, "--set", setting], capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert place in done.stderr, done.stderr


REFUSALS = [
    pytest.param(
        {"store.kind": "external", "store.endpoint": "https://s3"}, "store.existingSecrets.pipeline", id="keys"
    ),
    pytest.param({"postgresql.enabled": "false"}, "postgresql.existingSecret", id="database"),
    pytest.param({"serving.server.enabled": "true"}, "serving.server.model", id="model"),
    pytest.param(_RECEIVER, "kfp.endpoint: receiver.enabled", id="receiver"),
    pytest.param({**_KFP, "receiver.enabled": "true"}, "receiver.config", id="receiver's config"),
    pytest.param({**_KFP, "schedules.enabled": "true"}, "schedules.file", id="schedules"),
    pytest.param({"pipelines.upload": "true"}, "kfp.endpoint: pipelines.upload", id="pipelines"),
    pytest.param({"externalSecrets.enabled": "true"}, "externalSecrets.store", id="secret store"),
    pytest.param({"store.kind": "external", **_OWN_KEYS}, "store.endpoint", id="endpoint"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_what_cannot_work_is_refused_with_what_is_missing(helm: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(make_chart.ChartError, match=message.replace(".", r"\.")):
        make_chart.render(settings)


def _rights(items: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    """Return account to its rights: group, resource (with a name), verbs."""
    roles = {item["metadata"]["name"]: item["rules"] for item in items if item["kind"] == "Role"}
    accounts = [item["metadata"]["name"] for item in items if item["kind"] == "ServiceAccount"]
    found: dict[str, list[list[Any]]] = {name.removeprefix("visionyard-"): [] for name in accounts}
    for binding in (item for item in items if item["kind"] == "RoleBinding"):
        for subject in binding["subjects"]:
            for rule in roles[binding["roleRef"]["name"]]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        for name in rule.get("resourceNames", [""]):
                            place = f"{resource}/{name}" if name else resource
                            found[subject["name"].removeprefix("visionyard-")].append([group, place, rule["verbs"]])
    return found


def test_every_account_has_the_rights_of_the_table_and_no_more(rendered: dict[str, list[dict[str, Any]]]) -> None:
    table = yaml.safe_load((Path(__file__).parent / "rbac.yaml").read_text(encoding="utf-8"))
    found = _rights(rendered["kubeflow"])

    assert {account: sorted(map(str, rights)) for account, rights in found.items()} == {
        account: sorted(map(str, rights)) for account, rights in table.items()
    }
    assert not [item for items in rendered.values() for item in items if item["kind"].startswith("ClusterRole")]


def test_volumes_and_their_keys_outlive_an_uninstall_unless_told(rendered: dict[str, list[dict[str, Any]]]) -> None:
    def kept(items: list[dict[str, Any]]) -> set[str]:
        return {
            item["metadata"]["name"]
            for item in items
            if item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
        }

    assert kept(rendered["defaults"]) == {
        *("visionyard-store", "visionyard-postgresql", "visionyard-store-root"),
        *("visionyard-s3", "visionyard-s3-serving", "visionyard-s3-mlflow"),
    }
    assert kept(make_chart.render({"uninstall.keepData": "false"})) == set()


def _pod_templates(items: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Return the pods of what runs all the time; these are restarted when their template changes."""
    running = [item for item in items if item["kind"] in {"Deployment", "StatefulSet"}]
    return {make_chart.identity(item): item["spec"]["template"] for item in running}


def test_a_new_chart_version_alone_restarts_nothing(
    rendered: dict[str, list[dict[str, Any]]], helm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([helm, "package", make_chart.CHART, "--version", "9.9.9", "--destination", tmp_path], check=True)
    monkeypatch.setattr(make_chart, "CHART", tmp_path / "visionyard-9.9.9.tgz")
    newer = make_chart.render({})

    assert {item["metadata"]["labels"]["helm.sh/chart"] for item in newer} == {"visionyard-9.9.9"}
    assert _pod_templates(newer) == _pod_templates(rendered["defaults"])


def test_a_changed_setting_restarts_the_server() -> None:
    on = {"serving.server.enabled": "true", "serving.server.model": "s3://b/m"}

    def template(**settings: str) -> Any:
        return _pod_templates(make_chart.render({**on, **settings}))["Deployment", "visionyard-server"]

    assert template() != template(**{"serving.server.settings.VISIONYARD_SERVE_LOG_LEVEL": "debug"})


@pytest.mark.parametrize(("rules", "is_told"), [("never", False), ("always", True)])
def test_the_notes_speak_of_runbooks_where_there_are_alerts(
    rules: str, is_told: bool, helm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    done = subprocess.run(
        [helm, "install", "v", make_chart.CHART, "--dry-run=client", "--set", f"monitoring.rules={rules}"],
        capture_output=True,
        text=True,
        check=True,
    )

    notes = done.stdout.partition("NOTES:")[2]
    assert "helm test v" in notes
    assert ("runbookBaseUrl is empty" in notes) == is_told


def test_everything_is_denied_and_each_service_opens_one_port(rendered: dict[str, list[dict[str, Any]]]) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"] for item in rendered["defaults"] if item["kind"] == "NetworkPolicy"
    }

    default = policies["visionyard-default"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default
    assert {rule["port"] for rule in default["egress"][0]["ports"]} == {53}
    (database,) = policies["visionyard-postgresql"]["ingress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in database["from"]] == [
        "mlflow"
    ]
    assert database["ports"] == [{"port": "postgresql"}]


def test_mlflow_answers_to_its_service_name_and_runs_no_jobs(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (deployment,) = (
        item for item in rendered["defaults"] if make_chart.identity(item) == ("Deployment", "visionyard-mlflow")
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    hosts = next(word for word in container["args"] if word.startswith("--allowed-hosts=")).partition("=")[2].split(",")

    assert "visionyard-mlflow:*" in hosts
    assert "visionyard-mlflow.*.svc.cluster.local:*" in hosts
    assert not [host for host in hosts if host in {"*", "*:*"}]
    assert {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"} in container["env"]


def test_alerts_link_to_their_runbooks(rendered: dict[str, list[dict[str, Any]]]) -> None:
    (rules,) = (item for item in rendered["everything"] if item["kind"] == "PrometheusRule")
    links = [rule["annotations"]["runbook_url"] for group in rules["spec"]["groups"] for rule in group["rules"]]

    assert links
    assert all(link.startswith("https://git.example/visionyard/blob/main/docs/runbooks/") for link in links)


def test_what_needs_a_kind_of_the_cluster_waits_for_it(rendered: dict[str, list[dict[str, Any]]], helm: Path) -> None:
    custom = {"ServingRuntime", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ExternalSecret"}
    assert not custom & {item["kind"] for item in rendered["defaults"]}

    done = subprocess.run(
        [helm, "template", "v", make_chart.CHART, "--api-versions", "serving.kserve.io/v1alpha1/ServingRuntime",
         "--api-versions", "monitoring.coreos.com/v1/ServiceMonitor", "--api-versions",
         "monitoring.coreos.com/v1/PrometheusRule"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    kinds = {item["kind"] for item in yaml.safe_load_all(done.stdout) if item}
    assert custom - kinds == {"ExternalSecret"}
