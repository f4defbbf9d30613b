"""What acceptance knows of GPUs, sources and templates, beside what it refuses."""

from headgate_api.snapshot import Identity, ModelBody
from headgate_policy.snapshot import make_entry

from .models import A100, GOOD, spec, variant, world_with
from .world import World, told


def test_nodes_know_better_than_our_table() -> None:
    world, key = world_with(spec(variant(quantization="fp8", gpu={"products": [A100]})))
    world.node("n2", A100, "9.0")
    assert GOOD == told(world.settle(key))[0]


def test_a_product_that_only_nodes_know_is_known() -> None:
    newer = spec(variant(quantization="nvfp4", gpu={"products": ["NVIDIA-Z1"]}))
    world, key = world_with(newer)
    world.node("n2", "NVIDIA-Z1", "9.0")
    assert '"nvfp4" does not run on gpu.products "NVIDIA-Z1"' in told(world.settle(key))[0]
    world.node("n2", "NVIDIA-Z1", "13.0")
    assert GOOD == told(world.settle(key))[0]


def test_without_labels_on_nodes_the_message_says_which_label_it_wants() -> None:
    world = World()
    world.node("n1", "")
    key = world.apply("ModelDeployment", "llama", spec(variant(gpu={"products": ["H1OO"]})))
    assert (
        'Accepted=False UnknownGPUClass: spec.variants[bf16].gpu.products: "H1OO" is unknown; '
        "nodes here have no GPUs with the label nvidia.com/gpu.product"
    ) == told(world.settle(key))[0]
    world.node("n2", A100)
    assert told(world.settle(key))[0].endswith(f"; nodes here have {A100}")


def test_a_model_repository_may_have_any_name() -> None:
    world, key = world_with(spec(variant(uri="file:///hf/m"), runtime={"type": "triton-python"}))
    assert GOOD == told(world.settle(key))[0]


def test_a_template_in_force_is_not_refused_by_a_release_that_knows_more() -> None:
    source = "{% if %}"
    world, key = world_with(spec(model={"chatTemplate": {"inline": source}}))
    assert told(world.settle(key))[0].startswith("Accepted=False TemplateInvalid")
    body = ModelBody(public_name="llama", chat_template=source)
    identity = Identity(kind="ModelDeployment", namespace=key.namespace, name=key.name)
    uid = world.objects[key]["metadata"]["uid"]
    world.in_force[key] = make_entry(identity, uid=uid, generation=1, body=body)
    assert GOOD == told(world.settle(key))[0]
