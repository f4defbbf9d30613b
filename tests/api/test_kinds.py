from pathlib import Path

import pytest
from pydantic import ValidationError

from headgate_api.errors import Invalid
from headgate_api.kinds import KINDS, parse, unknown_fields
from headgate_api.modeldeployment import ModelDeployment
from headgate_api.tenantquota import TenantQuota

from .manifests import COMPLETE, EXAMPLES, MINIMAL, OURS, Manifest, name_of, read

KEYS = {"name": "keys", "apiKeys": {"secretRef": {"name": "some-keys"}}}


@pytest.mark.parametrize("manifest", [*COMPLETE, *MINIMAL], ids=name_of)
def test_what_is_parsed_is_what_was_written(manifest: Manifest) -> None:
    parsed = parse(manifest["kind"], manifest)

    written = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert manifest["spec"] == _numbers_as_text(written["spec"], manifest["spec"])


def _numbers_as_text(written: object, wanted: object) -> object:
    """Quantities are text in the models, though a manifest may have numbers."""
    match written, wanted:
        case dict(), dict():
            return {key: _numbers_as_text(value, wanted.get(key)) for key, value in written.items()}
        case str(), int():
            return int(written)
        case _:
            return written


def test_durations_are_seconds() -> None:
    runtime = ModelDeployment.parse(COMPLETE[0]).spec.runtime

    assert (5400.0, 600.0) == (runtime.load_timeout, runtime.drain_timeout)


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_every_example_parses_and_uses_known_fields_only(path: Path) -> None:
    for manifest in read(path):
        if manifest["apiVersion"] == OURS:
            assert manifest["metadata"]["name"] == parse(manifest["kind"], manifest).metadata.name
            assert () == unknown_fields(manifest["kind"], manifest)


def test_every_example_says_first_what_it_shows() -> None:
    assert all(path.read_text().startswith("# ") for path in EXAMPLES)


def test_fields_of_a_newer_release_are_ignored_and_named() -> None:
    manifest = {
        "metadata": {"name": "m"},
        "spec": {
            "weight": 7,
            "credentials": [KEYS, {**KEYS, "name": "more", "jwt": {"issuer": "x"}}],
        },
    }

    assert 2 == len(TenantQuota.parse(manifest).spec.credentials)
    assert ("spec.weight", "spec.credentials[1].jwt") == unknown_fields("TenantQuota", manifest)


def test_a_free_object_has_no_unknown_fields() -> None:
    assert () == unknown_fields("ModelDeployment", COMPLETE[0])


def test_an_object_that_breaks_the_schema_names_every_fault() -> None:
    variant = {"name": "a", "source": {}, "gpu": {"count": 99}}
    spec = {"runtime": {"loadTimeout": "5 mins"}, "variants": [variant]}

    with pytest.raises(Invalid) as fault:
        ModelDeployment.parse({"metadata": {"name": "m"}, "spec": spec})

    first, second, third = str(fault.value).split("; ")[:3]
    assert first == (
        'spec.runtime.loadTimeout: Invalid value: "5 mins": '
        '"5 mins" is no duration: write 30s, 15m or 1h30m'
    )
    assert second == "spec.variants[0].source.uri: Field required"
    assert third == (
        "spec.variants[0].gpu.count: Invalid value: 99: Input should be less than or equal to 16"
    )


def test_models_cannot_be_changed() -> None:
    parsed = ModelDeployment.parse(COMPLETE[0])
    with pytest.raises(ValidationError, match="frozen"):
        parsed.spec.replicas = 4  # type: ignore[misc]


def test_the_four_kinds_are_there() -> None:
    assert [*KINDS] == [resource.kind for resource in KINDS.values()]
