"""Manifests of the chart fit together; its pods start, serve and end as they should."""

import subprocess
from typing import Any

import pytest

helm = pytest.importorskip("helm_python", reason="make test-deploy has what this needs")

from tests.deploy.rendered import (
    CHART,
    NAMESPACE,
    SETUPS,
    Manifest,
    component,
    container,
    manifests,
    merged,
    of_kind,
    pods,
    render,
    servers,
    values,
)

PROBES = {"startupProbe": "/health", "readinessProbe": "/ready", "livenessProbe": "/health"}
every_setup = pytest.mark.parametrize("setup", SETUPS)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether a label selector matches."""
    equal = selector.get("matchLabels") or {}
    sets = selector.get("matchExpressions") or []
    assert all(one["operator"] == "In" for one in sets)
    return equal.items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in sets
    )


def selected(selector: dict[str, Any], setup: str) -> set[str]:
    """Components of the release that a label selector matches."""
    found = (pod for pod in pods(manifests(setup)) if selects(selector, pod["metadata"]["labels"]))
    return {component(pod) for pod in found}


@every_setup
def test_services_and_budgets_select_the_servers(setup: str) -> None:
    for service in of_kind(setup, "Service"):
        labels = {"matchLabels": service["spec"]["selector"]}
        wanted = "router" if service["metadata"]["name"].endswith("-router") else "server"
        assert selected(labels, setup) == {wanted}
    (budget,) = of_kind(setup, "PodDisruptionBudget")
    nodes = {"server", "worker"} if setup == "multi-node" else {"server"}
    assert selected(budget["spec"]["selector"], setup) == nodes


@every_setup
def test_workloads_select_their_own_pods(setup: str) -> None:
    for workload in of_kind(setup, "Deployment"):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        wanted = {labels["app.kubernetes.io/component"]}
        assert selected(workload["spec"]["selector"], setup) == wanted


@every_setup
def test_pods_name_what_is_there(setup: str) -> None:
    given = merged(setup)
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests(setup)}
    names.add(("Secret", given["keys"]["existingSecret"]))
    for pod in pods(manifests(setup)):
        volumes = {one["name"]: one for one in pod["spec"].get("volumes", ())}
        mounts = container(pod).get("volumeMounts", [])
        assert {mount["name"] for mount in mounts} == volumes.keys()
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in names
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
        for variable in container(pod).get("env", ()):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert ("Secret", secret["name"]) in names
        assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in names


@every_setup
def test_paths_in_arguments_are_mounted(setup: str) -> None:
    for pod in servers(manifests(setup)):
        mounts = [mount["mountPath"] for mount in container(pod)["volumeMounts"]]
        options = (one.partition("=") for one in container(pod)["args"])
        for path in (value for _, _, value in options if value.startswith("/")):
            assert any(path.startswith(f"{mount}/") for mount in mounts)


@every_setup
def test_containers_have_no_rights(setup: str) -> None:
    for pod in pods(manifests(setup)):
        rights = container(pod)["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        if component(pod) == "router":
            continue
        assert rights["readOnlyRootFilesystem"] is True
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        written = {mount["mountPath"] for mount in container(pod)["volumeMounts"]}
        assert {"/cache", "/tmp", "/dev/shm", "/home/steersman"} <= written


@every_setup
def test_a_pod_is_left_the_time_to_drain(setup: str) -> None:
    (pod,) = servers(manifests(setup))
    (announced,) = container(pod)["lifecycle"]["preStop"]["exec"]["command"][1:]
    (drained,) = (
        one.partition("=")[2]
        for one in container(pod)["args"]
        if one.startswith("--shutdown-timeout=")
    )
    assert int(drained) > 0, "0 ends every request at once"
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(announced) + int(drained)


@every_setup
def test_a_slow_start_is_not_killed(setup: str) -> None:
    (pod,) = servers(manifests(setup))
    startup = container(pod)["startupProbe"]
    longest = startup["periodSeconds"] * startup["failureThreshold"]
    assert longest >= 900
    for workload in of_kind(setup, "Deployment"):
        if "router" not in name(workload):
            assert workload["spec"]["progressDeadlineSeconds"] > longest
    for probe, path in PROBES.items():
        assert container(pod)[probe]["httpGet"] == {"path": path, "port": "http"}


@pytest.mark.parametrize("setup", ["one-gpu", "replicas", "multi-node"])
def test_servers_and_workers_get_gpus(setup: str) -> None:
    wanted = merged(setup)["gpu"]["count"]
    for pod in pods(manifests(setup)):
        limits = container(pod)["resources"]["limits"]
        assert limits.get("nvidia.com/gpu", 0) == (0 if component(pod) == "router" else wanted)
        assert "memory" in limits


def test_no_second_pod_is_started_where_there_is_no_second_gpu() -> None:
    (deployment,) = of_kind("one-gpu", "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_the_autoscaler_owns_the_number_of_replicas() -> None:
    (scaler,) = of_kind("replicas", "HorizontalPodAutoscaler")
    (server,) = (one for one in of_kind("replicas", "Deployment") if "router" not in name(one))
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": name(server),
    }
    assert "replicas" not in server["spec"]
    assert of_kind("default", "HorizontalPodAutoscaler") == []
    scaled = render(values("multi-node", autoscaling={"enabled": True}))
    (scaler,) = (one for one in scaled if one["kind"] == "HorizontalPodAutoscaler")
    (group,) = (one for one in scaled if one["kind"] == "LeaderWorkerSet")
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": group["apiVersion"],
        "kind": "LeaderWorkerSet",
        "name": name(group),
    }


def name(manifest: Manifest) -> str:
    found: str = manifest["metadata"]["name"]
    return found


def test_the_router_finds_the_servers_and_is_let_through() -> None:
    (router,) = (pod for pod in pods(manifests("replicas")) if component(pod) == "router")
    options = dict(one.split("=", 1) for one in container(router)["args"])
    labels = dict(one.split("=") for one in options["--k8s-label-selector"].split(","))
    assert selected({"matchLabels": labels}, "replicas") == {"server"}
    assert options["--k8s-namespace"] == NAMESPACE
    assert options["--routing-logic"] == "prefixaware"
    assert ingress("replicas", router["metadata"]["labels"])
    stranger = {"app.kubernetes.io/name": "another"}
    assert not ingress("replicas", stranger)
    assert ingress("default", stranger), "without a router the namespace's pods are clients"


def ingress(setup: str, labels: dict[str, str]) -> bool:
    """Tell whether pods of the same namespace with these labels may talk to the servers."""
    (policy,) = (one for one in of_kind(setup, "NetworkPolicy") if "router" not in name(one))
    assert selected(policy["spec"]["podSelector"], setup) >= {"server"}
    peers = (peer for rule in policy["spec"]["ingress"] for peer in rule["from"])
    return any(
        "namespaceSelector" not in peer and selects(peer["podSelector"], labels) for peer in peers
    )


def test_the_queue_has_an_end_and_may_have_none() -> None:
    def limits(**given: Any) -> list[str]:
        (pod,) = servers(render(values("default", **given)))
        return [one for one in container(pod)["args"] if "queued" in one]

    assert limits() == ["--max-num-queued-reqs=4096"]
    assert limits(queue={"maxRequests": 1_000_000}) == ["--max-num-queued-reqs=1000000"]
    assert limits(queue={"maxRequests": None}) == []


@pytest.mark.parametrize("path", ["", "/v1/traces"])
def test_spans_are_let_out_to_the_collector(path: str) -> None:
    endpoint = f"http://collector.observability:4318{path}"
    made = render(values("default", tracing={"endpoint": endpoint}))
    (pod,) = servers(made)
    assert f"--otlp-traces-endpoint={endpoint}" in container(pod)["args"]
    (policy,) = (one for one in made if one["kind"] == "NetworkPolicy")
    assert {"ports": [{"protocol": "TCP", "port": 4318}]} in policy["spec"]["egress"]


def test_nodes_of_a_replica_talk_freely() -> None:
    (policy,) = of_kind("multi-node", "NetworkPolicy")
    for direction in ("ingress", "egress"):
        free = [rule for rule in policy["spec"][direction] if "ports" not in rule]
        (peer,) = free[0].get("from") or free[0]["to"]
        assert selected(peer["podSelector"], "multi-node") == {"server", "worker"}
    assert policy["spec"]["podSelector"]
    assert selected(policy["spec"]["podSelector"], "multi-node") == {"server", "worker"}


def test_the_set_of_nodes_keeps_its_own_service() -> None:
    (group,) = of_kind("multi-node", "LeaderWorkerSet")
    services = {name(one) for one in of_kind("multi-node", "Service")}
    assert name(group) not in services, "LeaderWorkerSet makes a headless one of its name"


def test_a_gateway_sends_requests_to_the_pool() -> None:
    (pool,) = of_kind("inference-pool", "InferencePool")
    (route,) = of_kind("inference-pool", "HTTPRoute")
    assert selected(pool["spec"]["selector"], "inference-pool") == {"server"}
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"][0]["name"] == name(pool)
    assert [one for one in pods(manifests("inference-pool")) if component(one) == "router"] == []


@pytest.mark.parametrize("setup", ["replicas", "multi-node"])
def test_prometheus_scrapes_the_service(setup: str) -> None:
    (monitor,) = of_kind(setup, "ServiceMonitor")
    scraped = [
        service
        for service in of_kind(setup, "Service")
        if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    ]
    assert [name(one) for one in scraped] == ["steersman"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in scraped[0]["spec"]["ports"]}
    (rules,) = of_kind(setup, "PrometheusRule")
    assert rules["spec"]["groups"][0]["rules"]


def test_keys_come_from_a_secret() -> None:
    keys = {"apiKey": "one", "adminApiKey": "two"}
    made = render(values("default", keys=keys, serviceMonitor={"enabled": True}))
    (secret,) = (one for one in made if one["kind"] == "Secret")
    assert secret["data"] == {"api-key": "b25l", "admin-api-key": "dHdv"}
    (pod,) = servers(made)
    variables = {one["name"]: one for one in container(pod)["env"]}
    wanted = {"name": name(secret), "key": "api-key"}
    assert variables["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"] == wanted
    (monitor,) = (one for one in made if one["kind"] == "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"] == wanted
    assert of_kind("replicas", "Secret") == [], "an existing one is used as it is"
    (pod,) = servers(manifests("default"))
    assert "VLLM_API_KEY" not in {one["name"] for one in container(pod)["env"]}


def test_a_file_of_keys_comes_from_a_secret_of_the_operators() -> None:
    keys: dict[str, Any] = {"existingSecret": "ours", "file": True}
    monitored = {"enabled": True, "secretKey": "metrics-key"}
    made = render(values("default", keys=keys, serviceMonitor=monitored))
    (pod,) = servers(made)
    serving = container(pod)
    assert "--keys=/keys/keys.yaml" in serving["args"]
    (mount,) = (one for one in serving["volumeMounts"] if one["name"] == "keys")
    assert (mount["mountPath"], mount["readOnly"]) == ("/keys", True)
    (volume,) = (one for one in pod["spec"]["volumes"] if one["name"] == "keys")
    items = [{"key": "keys.yaml", "path": "keys.yaml"}]
    assert volume["secret"] == {"secretName": "ours", "items": items}
    variables = {one["name"]: one for one in serving["env"]}
    assert variables["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["optional"]
    (monitor,) = (one for one in made if one["kind"] == "ServiceMonitor")
    sent = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert sent == {"name": "ours", "key": "metrics-key"}
    routed = {"kind": "production-stack", "secretKey": "router-key"}
    (router,) = (
        pod
        for pod in pods(render(values("default", keys=keys, router=routed)))
        if component(pod) == "router"
    )
    (asking,) = container(router)["env"]
    assert asking["valueFrom"]["secretKeyRef"] == {"name": "ours", "key": "router-key"}
    with pytest.raises(helm.HelmError, match=r"keys\.existingSecret"):
        render(values("default", keys={"file": True}))


def test_a_new_pod_is_for_what_servers_do_not_follow() -> None:
    def annotations(**more: Any) -> dict[str, str]:
        (pod,) = servers(render(values("default", **more)))
        found: dict[str, str] = pod["metadata"]["annotations"]
        return found

    keyed = [annotations(keys={"apiKey": key}) for key in ("one", "two", "two")]
    assert keyed[0] != keyed[1] == keyed[2]
    assert annotations(rewards={"short": {"verify": {}}}) != annotations()
    profiles: dict[str, Any] = {"quick": {"control": {}}}
    assert annotations(profiles=profiles) == annotations()
    assert annotations(profiles=profiles, followSeconds=0) != annotations(followSeconds=0)


def test_shared_controls_are_made_or_only_read() -> None:
    def pod(**controls: Any) -> Manifest:
        (found,) = servers(render(values("default", controls={"enabled": True, **controls})))
        return found

    (makes,) = pod()["spec"]["initContainers"]
    arguments = container(pod())["args"]
    directories = [one.partition("=")[2] for one in arguments if "=/controls/" in one]
    assert sorted(directories) == sorted(makes["command"][2:])
    assert makes["command"][:2] == ["mkdir", "-p"]
    read_only = pod(readOnly=True, existingClaim="ours")
    assert "initContainers" not in read_only["spec"]
    mounts = {one["name"]: one for one in container(read_only)["volumeMounts"]}
    assert mounts["controls"]["readOnly"] is True
    assert "--edits=/controls/edits" not in container(pod(edits=False))["args"]
    assert "--live-edits=/controls/live" not in container(pod(live=False))["args"]


@pytest.mark.parametrize(
    ("given", "follows"),
    [
        ({"controls": {"enabled": True}}, True),
        ({"profiles": {"quick": {"control": {}}}}, True),
        ({"controls": {"enabled": True}, "followSeconds": 0}, False),
        ({}, False),
    ],
    ids=str,
)
def test_servers_follow_what_there_is_to_follow(given: dict[str, Any], follows: bool) -> None:
    (pod,) = servers(render(values("default", **given)))
    found = [one for one in container(pod)["args"] if one.startswith("--follow=")]
    assert found == (["--follow=5"] if follows else [])


def test_profiles_are_the_file_that_was_given() -> None:
    import yaml

    profiles = {"quick": {"control": {"search": {"method": "first_finish", "n": 8}}}}
    made = render(values("default", profiles=profiles))
    (config,) = (one for one in made if one["kind"] == "ConfigMap")
    assert yaml.safe_load(config["data"]["profiles.yaml"]) == profiles
    (pod,) = servers(made)
    assert "--profiles=/config/profiles.yaml" in container(pod)["args"]


@pytest.mark.parametrize("script", ["leader.sh", "worker.sh"])
def test_scripts_are_whole(script: str) -> None:
    (config,) = (one for one in of_kind("multi-node", "ConfigMap") if script in one["data"])
    source = config["data"][script]
    assert source.strip() == (CHART / "files" / script).read_text().strip()
    subprocess.run(["sh", "-n"], input=source, text=True, check=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"router": {"kind": "nginx"}},
        {"drain": {"seconds": 0}},
        {"multiNode": {"enabled": True}},
        {"fullnameOverride": "llm"},
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(chart.merge_values(values("default")))
        with pytest.raises(helm.HelmValuesError):
            chart.validate_schema(chart.merge_values(values("default", **wrong)))


def test_a_pool_needs_its_picker() -> None:
    with pytest.raises(helm.HelmRenderError, match="endpointPicker"):
        render(values("default", router={"kind": "inference-pool"}))
