"""`headgate validate`: the same verdicts, in the same words, as a real API server and operator."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate_api import crd
from headgate_api.kinds import KINDS
from headgate_cli.main import main
from headgate_cli.manifests.findings import field_of
from headgate_cli.manifests.schema import check

EXAMPLES = [
    Path(__file__).parents[2] / "examples" / name
    for name in ("quickstart", "routing", "safety", "triton-python")
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
    assert (0, "9 objects, 0 findings") == (
        (outcome := validate(capsys, *map(str, EXAMPLES)))[0],
        outcome[1][-1],
    )


def test_a_route_to_a_model_that_is_not_there_is_found(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path, ROUTE)

    code, said = validate(capsys, file)

    assert 1 == code
    where = f"{file}:9: RoutingPolicy/assistant: spec.routes[0].targets"
    missing = f'{where}: there is no ModelDeployment "llama" in this namespace'
    assert [missing, "1 objects, 1 findings"] == said


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
