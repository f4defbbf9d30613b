"""The fold from models to schemas, and what must hold of every schema that it makes."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from headgate_api import crd, generate, reference
from headgate_api.base import ApiModel, Resource, Rule, keyed, ordered
from headgate_api.conditions import Reason
from headgate_api.kinds import KINDS

YAML_BOOLEANS = {"y", "yes", "n", "no", "true", "false", "on", "off"}


class Inner(ApiModel):
    """An inner object."""

    size: int = 3
    note: str | None = None


class Outer(ApiModel):
    """An outer object."""

    validations = (Rule("self.inner.size > 1", "too small"),)
    kind: ClassVar[str] = "Outer"

    inner: Inner = Inner()
    """The inner object as a field."""
    when: datetime | None = None
    mode: Literal["One"] = "One"
    merged: Annotated[tuple[Inner, ...], keyed("note", 1, 4)] = ()
    replaced: Annotated[tuple[Inner, ...], ordered(0, 4)] = ()
    free: dict[str, Any] = Field(default_factory=dict)
    lazy: Inner = Field(default_factory=Inner)


def folded(model: type[ApiModel]) -> dict[str, Any]:
    raw = model.model_json_schema(by_alias=True)
    return crd.fold(raw, raw.get("$defs", {}))


INNER = {"type": "object", "properties": {"size": {"type": "integer"}, "note": {"type": "string"}}}


class TestFold:
    fields = folded(Outer)["properties"]

    def test_an_object_is_inlined_and_the_field_describes_it(self) -> None:
        assert "The inner object as a field." == self.fields["inner"]["description"]
        assert {"size", "note"} == self.fields["inner"]["properties"].keys()

    def test_a_default_is_written_out_in_full_without_what_is_absent(self) -> None:
        assert {"size": 3} == self.fields["inner"]["default"]
        assert 3 == self.fields["inner"]["properties"]["size"]["default"]

    def test_an_optional_field_may_be_absent_but_is_never_null(self) -> None:
        assert {"type": "string", "format": "date-time"} == self.fields["when"]

    def test_a_factorys_default_stays_in_python(self) -> None:
        assert "default" not in self.fields["lazy"]
        assert Inner() == Outer().lazy

    def test_a_literal_is_an_enum(self) -> None:
        assert {"type": "string", "enum": ["One"], "default": "One"} == self.fields["mode"]

    def test_items_of_a_keyed_list_have_defaults_and_its_key(self) -> None:
        listed = self.fields["merged"]
        assert ("map", ["note"]) == (
            listed["x-kubernetes-list-type"],
            listed["x-kubernetes-list-map-keys"],
        )
        assert 3 == listed["items"]["properties"]["size"]["default"]

    def test_items_of_an_ordered_list_have_no_defaults(self) -> None:
        listed = self.fields["replaced"]
        assert "atomic" == listed["x-kubernetes-list-type"]
        assert {"type": "integer"} == listed["items"]["properties"]["size"]

    def test_a_free_object_keeps_what_it_is_given(self) -> None:
        assert {"type": "object", "x-kubernetes-preserve-unknown-fields": True} == self.fields[
            "free"
        ]

    def test_a_models_rules_stand_beside_its_fields(self) -> None:
        rules = folded(Outer)["x-kubernetes-validations"]
        assert [{"rule": "self.inner.size > 1", "message": "too small"}] == rules

    def test_a_union_of_shapes_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a union of 2 shapes has no structural schema"):
            crd.fold({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})


def test_a_message_with_values_becomes_an_expression_and_a_fallback() -> None:
    rule = Rule("self.a < self.b", "it's {self.a}, not {self.b}", ".a")

    assert {
        "rule": "self.a < self.b",
        "message": "it's ..., not ...",
        "messageExpression": "'it\\'s ' + self.a + ', not ' + self.b",
        "fieldPath": ".a",
    } == rule.words()


def every_field(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from every_field(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield f"{path}[]", schema[inner]
            yield from every_field(schema[inner], f"{path}[]")


FIELDS = [
    pytest.param(path, field, id=f"{resource.kind}{path}")
    for resource in KINDS.values()
    for path, field in every_field(crd.schema(resource))
    if not path.startswith(".metadata")
]


@pytest.mark.parametrize(("path", "field"), FIELDS)
class TestEveryField:
    def test_is_described(self, path: str, field: dict[str, Any]) -> None:
        assert path.endswith("]") or field["description"].endswith(".")

    def test_is_bounded(self, path: str, field: dict[str, Any]) -> None:
        match field:
            case {"type": "string"}:
                assert {"maxLength", "enum", "format"} & field.keys()
            case {"type": "array"}:
                assert {"maxItems", "x-kubernetes-list-type"} <= field.keys()
            case {"additionalProperties": _}:
                assert "maxProperties" in field

    def test_is_no_boolean_of_yaml(self, path: str, field: dict[str, Any]) -> None:
        words = {path.rsplit(".", 1)[-1], *map(str, field.get("enum", ()))}
        in_conditions = {"True", "False"} & words  # as everywhere in Kubernetes; we write them
        assert not YAML_BOOLEANS & {word.lower() for word in words - in_conditions}

    def test_of_status_has_no_default(self, path: str, field: dict[str, Any]) -> None:
        assert not (path.startswith(".status") and "default" in field)


class TestGenerate:
    def test_what_is_committed_is_what_the_models_say(self) -> None:
        assert [] == generate.stale(generate.ROOT, generate.files())

    def test_files_that_are_missing_or_differ_are_stale(self, tmp_path: Path) -> None:
        (tmp_path / "same").write_text("1")
        (tmp_path / "old").write_text("0")

        assert ["old", "new"] == generate.stale(tmp_path, {"same": "1", "old": "1", "new": "1"})

    def test_check_names_stale_files_and_writes_none(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(generate, "ROOT", tmp_path)

        assert 1 == generate.main(["--check"])
        assert "crds/tenantquotas.yaml is stale: run make generate\n" in capsys.readouterr().out
        assert [] == list(tmp_path.iterdir())
        assert 0 == generate.main([])
        assert 0 == generate.main(["--check"])


class TestReference:
    pages = reference.pages(KINDS.values())

    @pytest.mark.parametrize("resource", KINDS.values())
    def test_has_every_field_of_a_kind(self, resource: type[Resource]) -> None:
        page = self.pages[f"docs/reference/{resource.kind.lower()}.md"]
        paths = [path.lstrip(".") for path, _ in every_field(crd.schema(resource))]

        fields = [p for p in paths if "." in p and not p.startswith("metadata") and p[-1] != "]"]
        assert [] == [path for path in fields if f"| `{path}` |" not in page]

    @pytest.mark.parametrize("reason", Reason)
    def test_has_every_reason(self, reason: Reason) -> None:
        assert f"| `{reason}` | " in self.pages["docs/reference/conditions.md"]
