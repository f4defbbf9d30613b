"""Overload is not death, and death is."""

import os

import pytest

from e2e.harness import MODEL, Cluster, load, until
from e2e.test_2_changes import PODS, ready_pods, settled

pytestmark = pytest.mark.cluster
STREAMS = 96  # at once: several times the slots of both pods
WAVES = int(os.environ.get("HEADGATE_OVERLOAD_WAVES", "3"))


def restarts(cluster: Cluster) -> dict[str, int]:
    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"]["containerStatuses"])
        for pod in cluster.pods(PODS)
    }


def test_overload_restarts_nothing(cluster: Cluster) -> None:
    """Far more streams than slots, for several periods of the liveness probe."""
    before = restarts(cluster)
    with load(cluster, concurrency=STREAMS, max_tokens=200) as streams:
        streams.more(WAVES * STREAMS, seconds=60 * WAVES)
    assert {} == dict(streams.failures)
    assert before == restarts(cluster)


def test_a_killed_stub_is_replaced(cluster: Cluster) -> None:
    victim = ready_pods(cluster)[0]
    before = restarts(cluster)[victim]
    script = (
        "import os,signal,pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "  try: argv = (p / 'cmdline').read_bytes()\n"
        "  except OSError: continue\n"
        "  if b'triton_python_backend_stub' in argv.split(b'\\0')[0]:\n"
        "    os.kill(int(p.name), signal.SIGKILL)\n"
    )
    cluster.kubectl("exec", victim, "--", "python3", "-c", script)

    until(lambda: restarts(cluster).get(victim, before + 1) > before, 120, "the pod is restarted")
    settled(cluster, 2)
    with load(cluster, model=MODEL) as streams:
        streams.more(4)
    assert {} == dict(streams.failures)


def test_a_pod_that_is_deleted_while_it_loads_does_not_hold_its_gpu(cluster: Cluster) -> None:
    simulation = {"simulation": {"load_s": 600}}
    cluster.apply(
        {
            "apiVersion": "headgate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "slow"},
            "spec": {
                "variants": [
                    {
                        "name": "bf16",
                        "source": {"uri": "hf://a/b@main"},
                        "engine": {"config": simulation},
                    }
                ]
            },
        }
    )
    slow = "headgate.dev/model=slow"
    until(
        lambda: [pod for pod in cluster.all("pods", slow) if pod["status"]["phase"] == "Running"],
        60,
        "the pod loads its model",
    )
    cluster.kubectl("delete", "mdep", "slow")
    until(lambda: not cluster.all("pods", slow), 60, "the pod is gone, long before its grace ends")
