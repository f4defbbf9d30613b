"""What a region gives to those who use it."""

import json
import socket
import urllib.request
from collections.abc import Callable

import pytest
from tests.cluster.conftest import Ground

from headgate_cluster import cluster, machines
from headgate_cluster.commands import run, until

pytestmark = pytest.mark.cluster

SERVER = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000, bind='0.0.0.0')"
IDLE = "import signal; signal.pause()"

IN_CLUSTER = """
import os, ssl, signal, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
trust = ssl.create_default_context(cafile=folder + "ca.crt")
for path in ("/version", "/api/v1/namespaces/default/pods"):
    request = urllib.request.Request(
        "https://kubernetes.default.svc" + path,
        headers={"Authorization": "Bearer " + open(folder + "token").read()},
    )
    try:
        print(path, urllib.request.urlopen(request, context=trust).status)
    except urllib.error.HTTPError as error:
        print(path, error.code)
signal.pause()
"""


def status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
        return int(answer.status)


def test_the_node_says_which_gpus_it_has(ground: Ground) -> None:
    node = json.loads(ground.kubectl("get", "node", "node-test", "-o", "json"))
    labels = {
        key.removeprefix("nvidia.com/gpu."): value
        for key, value in node["metadata"]["labels"].items()
        if key.startswith("nvidia.com/")
    }
    assert {
        "present": "true",
        "product": "NVIDIA-H100-80GB-HBM3",
        "count": "8",
        "memory": "81559",
        "compute.major": "9",
        "compute.minor": "0",
    } == labels
    assert "8" == node["status"]["allocatable"]["nvidia.com/gpu"]


def test_a_pod_gets_the_gpu_that_it_asks_for(ground: Ground, pod: Callable[..., str]) -> None:
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    pod("gpu", IDLE, resources=limits)
    assert "node-test" == ground.kubectl("get", "pod", "gpu", "-o", "jsonpath={.spec.nodeName}")


def test_a_service_account_may_what_its_roles_allow(
    ground: Ground, pod: Callable[..., str]
) -> None:
    pod("account", IN_CLUSTER)
    lines = until(
        lambda: len(seen := ground.kubectl("logs", "account").splitlines()) == 2 and seen,
        "both answers",
        seconds=30,
    )
    assert ["/version 200", "/api/v1/namespaces/default/pods 403"] == lines


def test_logs_come_from_the_kubelet(ground: Ground, pod: Callable[..., str]) -> None:
    pod("talks", f"print('here I am'); {IDLE}")
    assert "here I am\n" == ground.kubectl("logs", "talks")


def test_a_command_runs_in_a_container(ground: Ground, pod: Callable[..., str]) -> None:
    pod("idle", IDLE)
    assert "idle\n" == ground.kubectl("exec", "idle", "--", "hostname")


def test_a_port_can_be_forwarded(ground: Ground, pod: Callable[..., str]) -> None:
    pod("forwarded", SERVER, port=8000)
    forward = ground.popen("port-forward", "pod/forwarded", ":8000")
    assert forward.stdout is not None
    port = int(forward.stdout.readline().split(":")[1].split()[0])
    try:
        assert 200 == until(lambda: status_of(f"http://127.0.0.1:{port}/"), "answer", seconds=30)
    finally:
        forward.kill()
        forward.communicate()


def test_pods_and_node_ports_are_reachable_from_the_host(
    ground: Ground, pod: Callable[..., str]
) -> None:
    address = pod("served", SERVER, port=8000)
    ground.kubectl("expose", "pod", "served", "--type=NodePort", "--port=8000")
    port = ground.kubectl("get", "service", "served", "-o", "jsonpath={.spec.ports[0].nodePort}")
    node = ground.layout.node_ip(ground.layout.region("test"))
    for url in (f"http://{address}:8000/", f"http://{node}:{port}/"):
        assert 200 == until(lambda url=url: status_of(url), url, seconds=30)


def test_a_process_on_the_host_is_reachable_from_pods(
    ground: Ground, pod: Callable[..., str]
) -> None:
    with socket.create_server((ground.layout.host_ip, 0)) as server:
        server.settimeout(60)
        target = server.getsockname()
        pod("caller", f"import socket; socket.create_connection({target}); {IDLE}")
        connection, _ = server.accept()
        connection.close()


def test_services_have_names(ground: Ground, pod: Callable[..., str]) -> None:
    pod("named", SERVER, port=8000)
    ground.kubectl("expose", "pod", "named", "--port=8000")
    address = ground.kubectl("get", "service", "named", "-o", "jsonpath={.spec.clusterIP}")
    pod("asks", f"import socket; print(socket.gethostbyname('named')); {IDLE}")
    assert f"{address}\n" == ground.kubectl("logs", "asks")


def test_images_can_be_loaded_while_it_runs(ground: Ground) -> None:
    pid = machines.read_pid(ground.layout.machine("test"))
    assert pid
    run(*machines.inside(pid, "ctr", "-n", "k8s.io", "images", "remove", ground.pause.tag))
    assert [ground.pause.tag] == cluster.load_images(ground.layout, [ground.pause, ground.python])
    assert [] == cluster.load_images(ground.layout, [ground.pause, ground.python])
