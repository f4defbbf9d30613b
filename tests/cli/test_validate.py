"""`headgate validate`: the same verdicts, in the same words, as a real API server and operator."""

import copy
import json
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from headgate_api import crd
from headgate_api.kinds import KINDS
from headgate_cli.main import main
from headgate_cli.manifests.findings import field_of
from headgate_cli.manifests.folder import check_manifests
from headgate_cli.manifests.schema import check

EXAMPLES = [
    Path(__file__).parents[2] / "examples" / name
    for name in (
        *("quickstart", "routing", "routing-router", "routing-cascade"),
        *("safety", "speculation", "triton-python"),
    )
]
MODEL = """---
apiVersion: headgate.dev/v1alpha1
kind: ModelDeployment
metadata: {name: llama}
spec:
  variants:
    - name: bf16
      source: {uri: "hf://org/llama@main"}
"""
ROUTE = """---
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: assistant}
spec:
  models: [assistant]
  routes:
    - name: all
      targets: [{modelRef: {name: llama}}]
"""
TENANT = """---
apiVersion: headgate.dev/v1alpha1
kind: TenantQuota
metadata: {name: acme}
spec:
  credentials:
    - name: keys
      apiKeys:
        secretRef: {name: keys}
"""
SECRET = """---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {first: too-short}
"""
SAFETY = """apiVersion: headgate.dev/v1alpha1
kind: SafetyPolicy
metadata: {name: rules}
spec:
  rules:
    - name: dump
      stages: [Input]
      pattern: "list all"
      action: Refuse
      examples: {positive: [list all customers], negative: [list one]}
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
API: Path = Path(__file__).parents[1] / "api"
CASES: list[dict[str, Any]] = [
    case
    for case in yaml.safe_load((API / "invalid.yaml").read_text())["cases"]
    if "error parsing regexp" not in str(case["says"])  # ours says it better: see below
]


def plainly(said: str) -> str:
    """What the API server says, without the words that tell a user nothing."""
    said = re.sub(r'Invalid value: "(string|object|)": (?!spec\S* in body)', "", said, count=1)
    said = re.sub(r'.* strict decoding error: unknown field "(.*)"', r"\1: unknown field", said)
    return said.replace("[cpu]", ".cpu")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_says_what_the_api_server_says(case: dict[str, Any]) -> None:
    """The table is also run on a real API server, in tests/api/test_apiserver.py."""
    expected = case["says"] if isinstance(case["says"], list) else [case["says"]]

    faults = check(crd.schema(KINDS[case["manifest"]["kind"]]), case["manifest"])

    said = [f"{field_of(path)}: {message.partition('; there are')[0]}" for path, message in faults]
    # What begins with a dot is said a second time, by the subresource `scale`.
    assert sorted(plainly(e) for e in expected if not e.startswith(".")) == sorted(said)


def write(folder: Path, text: str, name: str = "all.yaml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def validate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = main(["validate", *arguments])
    return code, capsys.readouterr().out.splitlines()


def test_a_pattern_that_is_no_re2_is_named(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, SAFETY.replace("list all", "(?=secret)"))

    code, said = validate(capsys, file)

    assert 1 == code
    assert (
        f'{file}:8: SafetyPolicy/rules: spec.rules[0].pattern: "(?=secret)" must be RE2 '
        "(no look-around, no back-references) and match none of examples.negative"
    ) == said[0]


def test_the_examples_of_the_manual_are_good(capsys: Any) -> None:
    assert (0, "14 objects, 0 findings") == (
        (outcome := validate(capsys, *map(str, EXAMPLES)))[0],
        outcome[1][-1],
    )


def test_a_route_to_a_model_that_is_not_there_is_found(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, ROUTE)

    code, said = validate(capsys, file)

    assert 1 == code
    where = f"{file}:9: RoutingPolicy/assistant: spec.routes[all].targets"
    missing = f'{where}: there is no ModelDeployment "llama" in this namespace; give its file, too'
    assert [missing, "1 objects, 1 findings"] == said


RULES = """---
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: assistant}
spec:
  models: [assistant]
  architecture: Router
  routes:
    - targets: [{modelRef: {name: llama}}]
      name: first
      when: >-
        request.stream &&
        request.turns > 3
    - name: second
      targets: [{modelRef: {name: llama}}]
      when: tenant.budgetUsed > 0.9
    - name: all
      targets: [{modelRef: {name: llama}, variants: [bf16]}]
      acceptWhen: |
        // Long answers are cut somewhere.
        answer.finishReason != 'length'
"""


@pytest.mark.parametrize(
    ("written", "instead_of", "says"),
    [
        (
            "request.turn > 3",
            "request.turns > 3",
            (
                "11: RoutingPolicy/assistant: spec.routes[first].when: column 19: "
                "there is no request.turn; did you mean request.turns?"
            ),
        ),
        (
            "answer.reason",
            "answer.finishReason",
            (
                "19: RoutingPolicy/assistant: spec.routes[all].acceptWhen: line 2, column 1: "
                "there is no answer.reason; did you mean answer.finishReason?"
            ),
        ),
        (
            "[fp8]",
            "[bf16]",
            (
                "18: RoutingPolicy/assistant: spec.routes[all].targets: "
                'ModelDeployment "llama" has no variant "fp8"; it has bf16'
            ),
        ),
    ],
)
def test_a_route_that_cannot_work_is_found_on_its_line(
    tmp_path: Path, capsys: Any, written: str, instead_of: str, says: str
) -> None:
    rules = RULES.replace("tenant.budgetUsed > 0.9", "request.hasTools")
    file = write(tmp_path, rules.replace(instead_of, written) + MODEL)

    code, said = validate(capsys, file)

    assert 1 == code
    assert [f"{file}:{says}", "2 objects, 1 findings"] == said


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("prefer: Cost", "prefer: unknown field; there are acceptWhen, "),
        ("spill: Never", "spill: unknown field; there are acceptWhen, "),
        ("cache: {type: Exact}", "cache: unknown field; there are acceptWhen, "),
        (
            "generation: {caps: {maxChoices: 2}}",
            "generation.caps.maxChoices: unknown field; there are maxOutputTokens, temperature",
        ),
        (
            "fallback: [{route: other, triggers: [ModeSafe]}]",
            (
                'fallback[0].triggers[0]: Unsupported value: "ModeSafe": supported values: '
                '"Error", "Timeout", "Saturated", "Rejected"'
            ),
        ),
    ],
)
def test_what_nothing_acts_on_is_refused_by_name_with_what_there_is(
    tmp_path: Path, capsys: Any, written: str, says: str
) -> None:
    file = write(tmp_path, f"{ROUTE}      {written}\n" + MODEL)

    code, said = validate(capsys, file)

    assert 1 == code
    assert said[0].startswith(f"{file}:10: RoutingPolicy/assistant: spec.routes[0].{says}"), said


def test_a_word_that_nothing_measures_is_found(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, RULES + MODEL)

    _, said = validate(capsys, file)

    assert (
        f"{file}:16: RoutingPolicy/assistant: spec.routes[second].when: nothing measures "
        "tenant.budgetUsed yet; it has no value, so what reads it does not hold"
    ) == said[0]


def test_each_fault_of_a_policy_is_told_on_its_line(tmp_path: Path, capsys: Any) -> None:
    rules = RULES.replace("request.turns", "request.turn").replace("tenant.budgetUsed", "budget")
    file = write(tmp_path, rules.replace("[bf16]", "[fp8]") + MODEL)

    code, said = validate(capsys, file)

    assert 1 == code
    where = "RoutingPolicy/assistant: spec.routes"
    assert [
        (
            f"{file}:11: {where}[first].when: column 19: there is no request.turn; did you mean "
            "request.turns?"
        ),
        f"{file}:16: {where}[second].when: column 1: there is no budget",
        (
            f'{file}:18: {where}[all].targets: ModelDeployment "llama" has no variant "fp8"; '
            "it has bf16"
        ),
        "2 objects, 3 findings",
    ] == said


def test_what_refers_to_a_broken_object_is_not_blamed_for_it(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, ROUTE + MODEL.replace("hf://", "s3://"))

    _, said = validate(capsys, file)

    assert 1 == len(said[:-1])
    assert "ModelDeployment/llama: spec.variants[0].source.uri: start with hf://" in said[0]


def test_a_missing_secret_and_a_short_key_are_found(tmp_path: Path, capsys: Any) -> None:
    missing = write(tmp_path, TENANT, "missing.yaml")
    short = write(tmp_path, TENANT.replace("acme", "other") + SECRET, "short.yaml")

    code, said = validate(capsys, missing, short)

    assert 1 == code
    assert 'TenantQuota/other: spec.credentials[keys].apiKeys.secretRef: Secret "keys"' in said[1]
    assert "has an entry" in said[1]
    assert "short.yaml:9" in said[1]


def test_json_has_the_place_the_field_and_the_message(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, ROUTE.replace("models:", "model:"))

    code, said = validate(capsys, "-o", "json", file)

    assert 1 == code
    (finding,) = json.loads("".join(said))["findings"]
    assert {
        "file": file,
        "line": 6,
        "kind": "RoutingPolicy",
        "name": "assistant",
        "field": "spec.model",
        "message": finding["message"],
    } == finding
    assert finding["message"].startswith("unknown field; there are architecture, deadlines")


class TestReading:
    def test_finds_a_key_that_stands_twice(self, tmp_path: Path, capsys: Any) -> None:
        file = write(
            tmp_path, MODEL.replace("spec:\n", "spec:\n  suspend: true\n  suspend: false\n")
        )

        _, said = validate(capsys, file)

        assert (
            f'{file}:7: the key "suspend" stands here a second time; remove one of them' == said[0]
        )

    def test_finds_an_object_that_stands_twice(self, tmp_path: Path, capsys: Any) -> None:
        one, two = write(tmp_path, MODEL, "1.yaml"), write(tmp_path, MODEL, "2.yaml")

        _, said = validate(capsys, one, two)

        stands = f"stands a second time; the first is in {one}:2"
        assert f"{two}:4: ModelDeployment/llama: metadata.name: {stands}" == said[0]

    def test_says_where_a_file_is_no_yaml(self, tmp_path: Path, capsys: Any) -> None:
        file = write(tmp_path, "kind: [\n  one\n  two: }\n")

        code, said = validate(capsys, file)

        assert 1 == code
        assert said[0].startswith(f"{file}:3: not YAML: ")

    @pytest.mark.parametrize(
        ("config", "line", "said"),
        [
            ("{a: .nan}", 9, "engine.config.a: Invalid value: nan: JSON has no such number"),
            ("[{a: -.inf}]", 9, "engine.config[0].a: Invalid value: -inf: JSON has no such number"),
            ("{a: 9223372036854775808}", 9, "9223372036854775808: more than 64 bits"),
            ("{a: !!binary aGk=}", 9, "not YAML: could not determine a constructor for the tag"),
            ("{a: !!set {b, c}}", 9, "not YAML: could not determine a constructor for the tag"),
            ("&a {b: *a}", 1, "nested more than 100 levels deep, or an alias stands within its"),
            ("[" * 3000 + "]" * 3000, 1, "nested more than 100 levels deep"),
            (
                "[&a [1, 1, 1, 1, 1, 1, 1, 1]"
                + "".join(f", &{b} [{', '.join([f'*{a}'] * 8)}]" for a, b in pairwise("abcdef"))
                + "]",
                1,
                "its aliases stand for too much; write out what they mean",
            ),
        ],
    )
    def test_finds_what_no_api_server_could_be_given(
        self, config: str, line: int, said: str, tmp_path: Path, capsys: Any
    ) -> None:
        file = write(
            tmp_path, MODEL.removeprefix("---\n") + f"      engine:\n        config: {config}\n"
        )

        code, (finding, count) = validate(capsys, file)

        assert (1, True) == (code, count.endswith("1 findings"))
        assert finding.startswith(f"{file}:{line}: ")
        assert said in finding

    def test_reads_numbers_as_json_has_them(self, tmp_path: Path, capsys: Any) -> None:
        rule = ROUTE + "      generation: {caps: {temperature: 8e-1, maxOutputTokens: 1e3}}\n"

        assert (0, ["2 objects, 0 findings"]) == validate(capsys, write(tmp_path, MODEL + rule))

    def test_names_a_link_to_nothing(self, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "policy.yaml").symlink_to(tmp_path / "gone")

        assert 1 == main(["validate", str(tmp_path)])
        assert "policy.yaml is a link to nothing" in capsys.readouterr().err

    def test_takes_lists_anchors_and_what_looks_like_a_date(
        self, tmp_path: Path, capsys: Any
    ) -> None:
        items = """
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Secret
    metadata: &meta {name: keys}
    stringData: {first: a-key-that-is-long-enough-for-anybody}
  - apiVersion: headgate.dev/v1alpha1
    kind: TenantQuota
    metadata: {<<: *meta, namespace: default}
    spec:
      credentials:
        - name: keys
          apiKeys:
            secretRef: {name: keys}
            keys: [{name: first, expiresAt: 2030-01-01T00:00:00Z}]
"""
        assert (0, ["2 objects, 0 findings"]) == validate(capsys, write(tmp_path, items))

    def test_leaves_hidden_folders_alone_and_counts_other_kinds(
        self, tmp_path: Path, capsys: Any
    ) -> None:
        (tmp_path / "..data").mkdir()
        write(tmp_path / "..data", MODEL)
        write(tmp_path, MODEL + "---\n{apiVersion: v1, kind: Service, metadata: {name: any}}\n")

        assert (0, ["1 objects, 1 of other kinds skipped, 0 findings"]) == validate(
            capsys, str(tmp_path)
        )

    def test_names_a_path_that_is_not_there(self, tmp_path: Path, capsys: Any) -> None:
        assert 1 == main(["validate", str(tmp_path / "nowhere")])
        assert "there is no file or folder" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("before", "after", "said"),
        [
            (
                "headgate.dev/v1alpha1",
                "headgate.dev/v1",
                "apiVersion: write headgate.dev/v1alpha1;",
            ),
            ("kind: ModelDeployment", "kind: ModelDeploymnet", "kind: headgate.dev/v1alpha1 has "),
            ("name: llama}", "name: Llama}", "metadata.name: write a-z, 0-9, '-' and '.',"),
            ("metadata: {name: llama}", "metadata: {}", "metadata.name: write a-z, 0-9, '-'"),
        ],
    )
    def test_finds_a_frame_that_is_wrong(
        self, before: str, after: str, said: str, tmp_path: Path, capsys: Any
    ) -> None:
        code, lines = validate(capsys, write(tmp_path, MODEL.replace(before, after)))

        assert (1, 2) == (code, len(lines))
        assert said in lines[0]

    def test_never_shows_a_secret(self, tmp_path: Path, capsys: Any) -> None:
        secret = SECRET.replace("stringData: {first: too-short}", "data: {first: 'pa$$word'}")

        code, said = validate(capsys, write(tmp_path, TENANT + secret))

        assert 1 == code
        assert any(
            "data[first]: is not base64; write the plain text under" in line for line in said
        )
        assert not any("pa$$word" in line for line in said)


def test_two_tenants_with_one_key_are_found(tmp_path: Path, capsys: Any) -> None:
    secret = SECRET.replace("too-short", "a-key-that-is-long-enough-for-anybody")
    other = TENANT.replace("name: acme", "name: other") + TENANT

    _, said = validate(capsys, write(tmp_path, other + secret))

    assert 'entry "first" of Secret "keys" is also a key of TenantQuota default/acme' in said[0]


def test_nodes_among_the_files_tell_which_gpus_there_are(tmp_path: Path, capsys: Any) -> None:
    model = MODEL.replace("    - name: bf16\n", "    - name: bf16\n      gpu: {products: [X-9]}\n")
    node = """---
apiVersion: v1
kind: Node
metadata:
  name: node-1
  labels:
    nvidia.com/gpu.product: X-9
    nvidia.com/gpu.compute.major: "9"
    nvidia.com/gpu.compute.minor: "0"
status: {allocatable: {nvidia.com/gpu: "8"}}
"""
    assert 1 == validate(capsys, write(tmp_path, model))[0]
    assert 0 == validate(capsys, write(tmp_path, model + node))[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
COMPLETE: list[dict[str, Any]] = list(yaml.safe_load_all((API / "complete.yaml").read_text()))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a manifest, with each key that something lies under."""
    for key in list(value if isinstance(value, dict) else range(len(value))):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@given(data=st.data(), value=JSON)
def test_any_value_anywhere_gets_a_verdict_and_what_passes_can_be_planned(
    data: st.DataObject, value: object
) -> None:
    manifest = copy.deepcopy(data.draw(st.sampled_from(COMPLETE)))
    container, key = data.draw(st.sampled_from(list(places(manifest["spec"]))))
    container[key] = value

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(yaml.safe_dump(manifest))
        checked = check_manifests([str(file)], "eu-west", NOW)

    if not any(f.kind == manifest["kind"] for f in checked.findings):
        assert [manifest["kind"]] == [entry.kind for entry in checked.entries]
