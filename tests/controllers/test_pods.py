from typing import Any

import pytest
import yaml

from headgate_api.modeldeployment import ModelDeployment
from headgate_controllers.modeldeployment.gpus import Node, capability_of, runs, suits, terms
from headgate_controllers.modeldeployment.pods import cohort

META = {"name": "llama", "namespace": "chat", "uid": "uid-1", "generation": 1}


def mdep(variant: dict[str, Any] | None = None, **spec: Any) -> ModelDeployment:
    one = {"name": "v", "source": {"uri": "hf://meta/llama@main"}} | (variant or {})
    return ModelDeployment.parse({"metadata": META, "spec": {"variants": [one], **spec}})


def pod(variant: dict[str, Any] | None = None, **spec: Any) -> Any:
    made = mdep(variant, **spec)
    return cohort(made, made.spec.variants[0], "triton:1").template["spec"]


def files(variant: dict[str, Any] | None = None, **spec: Any) -> Any:
    made = mdep(variant, **spec)
    return cohort(made, made.spec.variants[0], "triton:1").files


class TestPod:
    def test_a_pod_may_do_next_to_nothing(self) -> None:
        spec = pod()
        (server,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        } == server["securityContext"]
        assert {"configMap", "emptyDir", "name"} == {key for v in spec["volumes"] for key in v}

    def test_the_command_line_of_the_llm_api(self) -> None:
        (server,) = pod(runtime={"args": ["--log-verbose=1"], "drainTimeout": "2m"})["containers"]
        assert [
            "--model-repository=/app/all_models/llmapi",
            "--model-control-mode=explicit",
            "--load-model=tensorrt_llm",
            "--exit-timeout-secs=120",
            "--metrics-config=summary_latencies=true",
            "--log-verbose=1",
        ] == server["args"]
        assert ["tritonserver"] == server["command"]

    def test_the_command_line_of_a_model_repository(self) -> None:
        spec = pod({"source": {"uri": "pvc://weights/repo"}}, runtime={"type": "triton-python"})
        (server,) = spec["containers"]
        assert "--model-repository=/models/repo" == server["args"][0]
        assert "--load-model=ensemble" == server["args"][2]
        assert "--model-config-name=headgate" in server["args"]
        assert {
            "config": "/etc/headgate",
            "shm": "/dev/shm",  # noqa: S108 - of the pod
            "models": "/models",
            "model-config": "/models/repo/ensemble/configs",
        } == {mount["name"]: mount["mountPath"] for mount in server["volumeMounts"]}

    def test_the_command_line_of_trtllm_serve(self) -> None:
        serve = {"type": "trtllm-serve", "args": ["--tool_parser=qwen3"]}
        (server,) = pod(runtime=serve)["containers"]
        assert [
            "meta/llama",
            "--host=0.0.0.0",
            "--port=8000",
            "--backend=pytorch",
            "--extra_llm_api_options=/etc/headgate/llm.yaml",
            "--tool_parser=qwen3",
        ] == server["args"]
        assert ["trtllm-serve"] == server["command"]
        assert [{"name": "http", "containerPort": 8000}] == server["ports"]

    def test_trtllm_serve_reads_a_checkpoint_from_a_claim(self) -> None:
        claim = {"source": {"uri": "pvc://weights/llama"}}
        (server,) = pod(claim, runtime={"type": "trtllm-serve"})["containers"]
        assert "/models/llama" == server["args"][0]
        assert "/models" in {mount["mountPath"] for mount in server["volumeMounts"]}

    def test_probes_of_trtllm_serve_speak_its_language(self) -> None:
        (server,) = pod(runtime={"type": "trtllm-serve"})["containers"]
        health = {"path": "/health", "port": "http"}
        assert [health, health] == [
            server[f"{which}Probe"]["httpGet"] for which in ("startup", "readiness")
        ]
        command = ["python3", "/etc/headgate/alive.py", "llm", "trtllm-serve"]
        assert command == server["livenessProbe"]["exec"]["command"]

    def test_the_pod_says_what_it_speaks(self) -> None:
        made = mdep(runtime={"type": "trtllm-serve"})
        template = cohort(made, made.spec.variants[0], "trtllm:1").template
        assert "trtllm-serve" == template["metadata"]["labels"]["headgate.dev/runtime"]

    def test_a_pod_drains_before_it_is_killed(self) -> None:
        spec = pod(runtime={"drainTimeout": "10m"})
        (server,) = spec["containers"]
        assert 5 + 600 + 10 == spec["terminationGracePeriodSeconds"]
        assert {"preStop": {"sleep": {"seconds": 5}}} == server["lifecycle"]

    def test_a_pod_that_still_loads_dies_of_sigterm(self) -> None:
        assert pod()["shareProcessNamespace"], "as process 1 it would ignore the signal"

    def test_a_start_may_take_all_of_the_load_timeout(self) -> None:
        (server,) = pod(runtime={"loadTimeout": "1h"})["containers"]
        probe = server["startupProbe"]
        assert 3600 == probe["periodSeconds"] * probe["failureThreshold"]

    def test_liveness_asks_for_a_token(self) -> None:
        (server,) = pod()["containers"]
        command = ["python3", "/etc/headgate/alive.py", "tensorrt_llm", "triton-llmapi"]
        assert command == server["livenessProbe"]["exec"]["command"]
        assert 10 == server["livenessProbe"]["terminationGracePeriodSeconds"], (
            "the dead do not drain"
        )
        assert files()["alive.py"].startswith('"""Does the model in this pod still answer?')

    def test_what_the_user_says_of_the_pod_is_in_it(self) -> None:
        spec = pod(
            pod={
                "nodeSelector": {"zone": "a"},
                "priorityClassName": "high",
                "imagePullSecrets": [{"name": "registry"}],
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "resources": {"requests": {"cpu": 4}, "limits": {"memory": "64Gi"}},
            },
            runtime={
                "shmSize": "16Gi",
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "T", "secretKeyRef": {"name": "hf", "key": "token"}},
                ],
            },
            variant={"gpu": {"count": 4}, "image": "triton:2"},
        )
        (server,) = spec["containers"]
        assert ({"zone": "a"}, "high", [{"name": "registry"}]) == (
            spec["nodeSelector"],
            spec["priorityClassName"],
            spec["imagePullSecrets"],
        )
        assert {"key": "spot", "operator": "Exists"} == spec["tolerations"][1]
        assert {
            "limits": {"memory": "64Gi", "nvidia.com/gpu": 4},
            "requests": {"cpu": "4"},
        } == server["resources"]
        assert ("triton:2", "16Gi") == (
            server["image"],
            next(v["emptyDir"]["sizeLimit"] for v in spec["volumes"] if v["name"] == "shm"),
        )
        assert [
            {"name": "A", "value": "1"},
            {"name": "T", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
        ] == server["env"][-2:]


class TestFiles:
    def test_model_yaml_streams_and_splits_over_all_gpus(self) -> None:
        assert {
            "model": "meta/llama",
            "revision": "main",
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 1,
            "max_batch_size": 64,
            "kv_cache_config": {"free_gpu_memory_fraction": 0.9, "dtype": "fp8"},
            "triton_config": {"max_batch_size": 0, "decoupled": True},
        } == yaml.safe_load(
            files(
                {
                    "gpu": {"count": 2},
                    "engine": {
                        "maxBatchSize": 64,
                        "kvCachePercent": 90,
                        "config": {"kv_cache_config": {"dtype": "fp8"}},
                    },
                }
            )["model.yaml"]
        )

    def test_trtllm_serve_gets_the_same_options_and_publishes_its_queue(self) -> None:
        engine = {"kvCachePercent": 80, "config": {"enable_chunked_prefill": True}}
        assert {
            "revision": "main",
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 2,
            "kv_cache_config": {"free_gpu_memory_fraction": 0.8},
            "return_perf_metrics": True,
            "enable_iter_perf_stats": True,
            "enable_chunked_prefill": True,
        } == yaml.safe_load(
            files(
                {
                    "gpu": {"count": 4},
                    "parallelism": {"tensor": 2, "pipeline": 2},
                    "engine": engine,
                },
                runtime={"type": "trtllm-serve"},
            )["llm.yaml"]
        )

    def test_engine_config_has_the_last_word(self) -> None:
        config = {"max_batch_size": 8, "triton_config": {"decoupled": False}}
        written = yaml.safe_load(
            files({"engine": {"maxBatchSize": 64, "config": config}})["model.yaml"]
        )
        assert 8 == written["max_batch_size"]
        assert {"max_batch_size": 0, "decoupled": False} == written["triton_config"]

    def test_parameters_of_a_model_repository_are_strings(self) -> None:
        written = files(
            {
                "source": {"uri": "file:///repo"},
                "engine": {"config": {"simulation": {"step_ms": 2}, "mode": 'a "b"'}},
            },
            runtime={"type": "triton-python"},
        )["headgate.pbtxt"]
        assert (
            'parameters { key: "mode" value: { string_value: "a \\"b\\"" } }\n'
            'parameters { key: "simulation" value: { string_value: "{\\"step_ms\\": 2}" } }\n'
        ) == written[written.index("parameters {") :]
        assert "model_transaction_policy { decoupled: true }" in written


ADA = Node({"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.compute.major": "8",
            "nvidia.com/gpu.compute.minor": "9"}, gpus=2)  # fmt: skip
AMPERE = Node({"nvidia.com/gpu.product": "NVIDIA-A100", "nvidia.com/gpu.compute.major": "8",
               "nvidia.com/gpu.compute.minor": "0"}, gpus=8)  # fmt: skip
BLACKWELL = Node({"nvidia.com/gpu.product": "NVIDIA-B200", "nvidia.com/gpu.compute.major": "10",
                  "nvidia.com/gpu.compute.minor": "0"}, gpus=8)  # fmt: skip
PLAIN = Node({}, gpus=1)


class TestGpus:
    @pytest.mark.parametrize(
        ("variant", "nodes"),
        [
            ({}, [ADA, AMPERE, BLACKWELL, PLAIN]),
            ({"quantization": "fp8"}, [ADA, BLACKWELL]),
            ({"quantization": "nvfp4"}, [BLACKWELL]),
            ({"quantization": "int4-awq"}, [ADA, AMPERE]),
            ({"quantization": "w4a8-awq"}, [ADA]),
            ({"gpu": {"count": 4}}, [AMPERE, BLACKWELL]),
            ({"gpu": {"products": ["NVIDIA-L4", "NVIDIA-B200"]}}, [ADA, BLACKWELL]),
            ({"gpu": {"computeCapabilities": ["8.0", "8.9"]}}, [ADA, AMPERE]),
            (
                {"gpu": {"products": ["NVIDIA-L4"], "computeCapabilities": ["8.0"]}},
                [],
            ),
        ],
    )
    def test_a_variant_runs_where_its_gpus_and_precision_are(
        self, variant: dict[str, Any], nodes: list[Node]
    ) -> None:
        (one,) = mdep(variant).spec.variants
        assert nodes == [n for n in (ADA, AMPERE, BLACKWELL, PLAIN) if suits(one, {}, n)]

    @pytest.mark.parametrize("quantization", ["fp8", "nvfp4", "int4-awq", "w4a8-awq", "int8"])
    def test_affinity_and_table_say_the_same(self, quantization: str) -> None:
        (one,) = mdep({"quantization": quantization}).spec.variants
        for major in range(7, 13):
            for minor in range(10):
                labels = {
                    "nvidia.com/gpu.compute.major": str(major),
                    "nvidia.com/gpu.compute.minor": str(minor),
                }
                assert runs(quantization, (major, minor)) == suits(one, {}, Node(labels, 1))

    def test_any_gpu_needs_no_affinity(self) -> None:
        (one,) = mdep().spec.variants
        assert [] == terms(one)
        assert "affinity" not in pod()

    @pytest.mark.parametrize(
        ("product", "capability"),
        [
            ("NVIDIA-A100-SXM4-80GB", (8, 0)),
            ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", (8, 0)),
            ("NVIDIA-L40S", (8, 9)),
            ("NVIDIA-RTX-6000-Ada-Generation", (8, 9)),
            ("NVIDIA-H200-SHARED", (9, 0)),
            ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", (12, 0)),
            ("Tesla-T4", (7, 5)),
            ("NVIDIA-H1OO", None),
        ],
    )
    def test_products_and_their_compute_capability(
        self, product: str, capability: tuple[int, int] | None
    ) -> None:
        assert capability == capability_of(product)
