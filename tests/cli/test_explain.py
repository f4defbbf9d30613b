"""`headgate explain`, without a gateway: policy and request from files."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from headgate_cli.main import main
from headgate_cluster.files import TREE

EXAMPLES = (str(TREE / "examples" / "quickstart"), str(TREE / "examples" / "routing"))
POLICY = """
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: desk}
spec:
  models: [desk]
  architecture: Router
  matchHeaders: [x-plan]
  routes:
    - name: tools
      when: request.hasTools
      targets: [{modelRef: {name: qwen-2-5-7b}}]
    - name: gold
      when: request.headers["x-plan"] == "gold" || now.hour < 6
      targets: [{modelRef: {name: llama-3-1-8b}}, {modelRef: {name: qwen-2-5-7b}, weight: 3}]
    - name: rest
      targets: [{modelRef: {name: qwen-2-5-7b}}]
      context: {maxInputTokens: 16}
      fallback: [{route: sorry, triggers: [Error, Timeout]}]
    - name: sorry
      role: Fallback
      respond: {message: "Later."}
"""
CASCADE = """
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: extract}
spec:
  models: [extract]
  architecture: Cascade
  routes:
    - name: fast
      targets: [{modelRef: {name: qwen-2-5-7b}}]
      acceptWhen: answer.schemaValid
    - name: strong
      targets: [{modelRef: {name: llama-3-1-8b}}]
"""
STAGES = """
apiVersion: headgate.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: stages}
spec:
  models: [stages]
  architecture: Cascade
  routes:
    - name: fast
      targets: [{modelRef: {name: qwen-2-5-7b}}]
      acceptWhen: answer.schemaValid
      fallback: [{route: again, triggers: [Rejected]}, {route: strong, triggers: [Error]}]
    - name: again
      role: Fallback
      targets: [{modelRef: {name: qwen-2-5-7b}}]
      acceptWhen: answer.schemaValid
      fallback: [{route: strong, triggers: [Rejected, Error]}]
    - name: strong
      role: Fallback
      targets: [{modelRef: {name: llama-3-1-8b}}]
      generation: {defaults: {maxOutputTokens: 50}}
      fallback: [{route: sorry, triggers: [Error]}]
    - name: sorry
      role: Fallback
      respond: {message: "Later."}
    - name: never
      when: request.hasTools
      targets: [{modelRef: {name: llama-3-1-8b}}]
      acceptWhen: answer.schemaValid
    - name: short
      targets: [{modelRef: {name: llama-3-1-8b}}]
      context: {maxInputTokens: 64, onOverflow: Truncate}
"""
NOON = "2026-11-27T12:00:00Z"


class Rehearsing:
    """The command, with a folder for its files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        (folder / "policies.yaml").write_text("---".join((POLICY, CASCADE, STAGES)))

    def say(self, *options: str, body: str | None = None, **fields: Any) -> tuple[int, str, str]:
        """Return the exit code and what was printed."""
        request = self.folder / "request.json"
        message = {"role": "user", "content": "Hello"}
        request.write_text(body or json.dumps({"messages": [message]} | fields))
        policies = str(self.folder / "policies.yaml")
        manifests = ("--manifests", *EXAMPLES, policies, "--request", str(request))
        code = main(["explain", *manifests, *options])
        return code, *self._capsys.readouterr()

    def tell(self, *options: str, **fields: Any) -> Any:
        """Return the explanation for the tenant `demo` at noon."""
        at = () if "--at" in options else ("--at", NOON)
        code, out, err = self.say("--tenant", "demo", "-o", "json", *at, *options, **fields)
        assert (0, "") == (code, err)
        return json.loads(out)


@pytest.fixture
def rehearsing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rehearsing:
    return Rehearsing(tmp_path, capsys)


def matched(found: Any) -> dict[str, str]:
    return {rule["route"]: rule["matched"] for rule in found["rules"]}


def test_a_request_is_explained_in_words(rehearsing: Rehearsing) -> None:
    options = ("--tenant", "demo", "--header", "X-Plan=silver", "--at", NOON)
    code, out, err = rehearsing.say(*options, model="desk")

    assert (0, "") == (code, err)
    assert (
        """\
A chat for the model "desk", asked by tenant demo (key first-try).

Policy default/desk claims the name (Router: the first route whose `when` is true takes the \
request).
  tools: no, when request.hasTools
    because request.hasTools is false
  gold: no, when request.headers["x-plan"] == "gold" || now.hour < 6
    because request.headers["x-plan"] == "gold" is false (request.headers["x-plan"] is 'silver')
    and now.hour < 6 is false (now.hour is 12)
  rest: yes, it takes all that comes to it
    leads to qwen-2-5-7b; falls back to sorry after Error or Timeout; refuses what is beyond 16 \
tokens of input
  sorry: fallback only
    has a fixed answer

Its way:
  1. route rest, model qwen-2-5-7b (the only target that was ready), about 18 tokens of input: it \
would be asked

What could follow:
  after Error or Timeout of rest: route sorry, the answer is fixed

Budgets:
  time: 120 s, by the policy
  output: at most 1024 tokens
"""
    ) == out


def test_headers_and_time_decide_as_they_would(rehearsing: Rehearsing) -> None:
    gold = rehearsing.tell("--header", "x-plan=gold", model="desk")
    night = rehearsing.tell("--at", "2026-11-27T04:00:00+01:00", model="desk")
    plain = rehearsing.tell(model="desk")

    assert ["yes", "yes", "error"] == [matched(found)["gold"] for found in (gold, night, plain)]
    assert ["now.hour < 6 is true (now.hour is 3)"] == night["rules"][1]["because"]
    assert {"llama-3-1-8b": 1, "qwen-2-5-7b": 3} == gold["rules"][1]["targets"]
    assert gold["stages"][0]["model"] in gold["rules"][1]["targets"]
    assert {"now.hour": 12, "request.headers": {}} == plain["rules"][1]["read"]
    assert "x-plan" in plain["rules"][1]["error"]


def test_a_cascade_tells_where_it_begins_and_what_it_accepts(rehearsing: Rehearsing) -> None:
    found = rehearsing.tell("--header", "x-request-timeout-ms=2000", model="extract", max_tokens=50)

    assert {"fast": "yes", "strong": "not reached"} == matched(found)
    assert "answer.schemaValid" == found["rules"][0]["accept_when"]
    (stage,) = found["stages"]
    assert ("fast", "qwen-2-5-7b", "") == tuple(
        stage[name] for name in ("route", "model", "result")
    )
    budgets = {"seconds": 2.0, "set_by": "x-request-timeout-ms", "max_output_tokens": 50}
    assert budgets == found["budgets"]


def test_each_route_that_could_follow_is_told_with_what_it_would_be_asked(
    rehearsing: Rehearsing,
) -> None:
    turns = [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "No."}]
    turns.append({"role": "user", "content": "Yes?"})
    found = rehearsing.tell(model="stages", messages=turns)

    (first,) = found["stages"]
    assert ("fast", "qwen-2-5-7b", True) == (
        first["route"],
        first["model"],
        first["input_tokens"] > 100,
    )
    again, strong, sorry, never, short = found["prospects"]
    assert {"fast": ["Rejected"]} == again["after"]
    assert ("again", "qwen-2-5-7b", True) == (again["route"], again["model"], again["repair"])
    assert {"again": ["Error", "Rejected"], "fast": ["Error"]} == strong["after"]
    assert ("strong", "llama-3-1-8b", 50) == (
        strong["route"],
        strong["model"],
        strong["max_output_tokens"],
    )
    assert "repair" not in strong
    assert ("sorry", "fixed", {"strong": ["Error"]}) == (
        sorry["route"],
        sorry["why"],
        sorry["after"],
    )
    assert ("never", "its `when` does not hold") == (never["route"], never["reason"])
    assert ("short", {"fast": []}) == (short["route"], short["after"])
    assert "History:1" in short["context"]
    assert short["input_tokens"] < 64


def test_what_could_follow_is_told_in_words(rehearsing: Rehearsing) -> None:
    _, out, _ = rehearsing.say("--tenant", "demo", model="stages")

    ready = "(the only target that was ready)"
    asked = f"model qwen-2-5-7b {ready}, about 18 tokens of input"
    follows = out.partition("What could follow:\n")[2].partition("\n\n")[0].splitlines()
    again, strong, sorry, never, _ = (line.strip() for line in follows)
    assert (
        f"after Rejected of fast: route again, {asked}, and after Rejected its answer before and "
        "what was wrong with it, at most 1024 of output"
    ) == again
    assert strong.startswith("after Error or Rejected of again or after Error of fast: route str")
    assert "after Error of strong: route sorry, the answer is fixed" == sorry
    assert "after fast: route never, which could not be asked: its `when` does not hold" == never


def test_a_refusal_is_an_explanation_too(rehearsing: Rehearsing) -> None:
    long = [{"role": "user", "content": "word " * 400}]
    beyond = rehearsing.tell(model="desk", messages=long)
    (stage,) = beyond["stages"]
    assert ("failed", "context_length_exceeded") == (stage["result"], stage["reason"])

    more = rehearsing.tell(model="qwen-2-5-7b", max_tokens=10**9)
    outcome = more["outcome"]
    assert (400, "context_length_exceeded", "context") == tuple(
        outcome[name] for name in ("status", "code", "stage")
    )
    assert "more were asked for" in outcome["message"]


def test_a_key_that_is_over_by_then_is_refused(rehearsing: Rehearsing) -> None:
    who = ("--tenant", "support-desk", "--key-name", "contractor")
    later = ("--at", "2031-01-01T00:00:00Z")

    code, out, _ = rehearsing.say(*who, *later, model="assistant")

    assert 0 == code
    assert "Refused by the stage identity with status 401, invalid_api_key." in out
    assert "The client is told: This API key has expired." in out
    code, out, _ = rehearsing.say(*who, model="assistant")
    assert "Policy default/assistant claims the name" in out


def test_a_route_is_not_asked_where_the_request_is_refused_before(rehearsing: Rehearsing) -> None:
    options = ("--tenant", "support-desk", "--header", "x-request-timeout-ms=soon")

    code, out, _ = rehearsing.say(*options, model="assistant")

    assert 0 == code
    assert "Refused by the stage deadline with status 400, invalid_value." in out
    assert ": not asked\n" in out


@pytest.mark.parametrize(
    ("options", "body", "said"),
    [
        ((), None, "say who asks, with --tenant; there are: demo, support-desk"),
        (
            ("--tenant", "acme"),
            None,
            "no tenant acme has a key; those that have: demo, support-desk",
        ),
        (("--tenant", "demo", "--key-name", "x"), None, "tenant demo has no key x; there are: f"),
        (("--tenant", "demo"), "{", "the request: The body is not valid JSON in UTF-8."),
        (("--tenant", "demo"), '{"messages": []}', "the request: "),
        (("--tenant", "demo"), '{"model": "desk", "mesages": 1}', "the request: "),
        (
            ("--tenant", "support-desk"),
            None,
            "tenant support-desk may use no model 'desk'; it may use: assistant",
        ),
        (("--tenant", "demo", "--header", "x-plan"), None, "--header x-plan: write NAME=VALUE"),
    ],
)
def test_what_cannot_be_right_is_told_with_what_would_be(
    rehearsing: Rehearsing, options: tuple[str, ...], body: str | None, said: str
) -> None:
    code, out, err = rehearsing.say(*options, body=body, model="desk")

    assert (2, "") == (code, out)
    assert f"headgate explain: {said}" in err


def test_manifests_that_are_wrong_are_told_with_their_place(rehearsing: Rehearsing) -> None:
    wrong = POLICY.replace("request.hasTools", "request.hasTool")
    (rehearsing.folder / "policies.yaml").write_text(wrong)

    code, out, err = rehearsing.say("--tenant", "demo", model="desk")

    assert (1, "") == (code, out)
    assert "headgate: nothing is explained:\n" in err
    assert "policies.yaml:" in err
    assert "request.hasTool" in err


def test_a_body_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = io.BytesIO(b'{"model": "llama-3-1-8b", "prompt": "Hi"}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(body))

    assert 0 == main(["explain", "--manifests", EXAMPLES[0], "--request", "-"])
    assert capsys.readouterr().out.startswith('A completion for the model "llama-3-1-8b", asked ')


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give either a REQUEST_ID, or --manifests and --request"),
        (("p-1", "--manifests", "x"), "give either a REQUEST_ID, or --manifests and --request"),
        (("", "--gateway", "http://127.0.0.1:9"), "the REQUEST_ID is empty; it is the"),
        (("--manifests", "x"), "--manifests goes with --request FILE"),
        (("--manifests", "x", "--gateway", "http://h"), "--gateway goes with a REQUEST_ID"),
        (("--manifests", "x", "-n", "team"), "--namespace goes with a REQUEST_ID"),
        (("p-1", "--key-name", "first"), "--key-name goes with --manifests"),
        (("p-1", "--header", "x-plan=gold"), "--header goes with --manifests"),
        (("--manifests", "x", "--request", "/no/such"), "--request /no/such: No such file"),
    ],
)
def test_options_that_do_not_go_together_say_what_does(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(["explain", *options])
    assert said in capsys.readouterr().err


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "--at", "noon"])
    assert "'noon' is no time, such as 2026-11-27T09:30:00Z" in capsys.readouterr().err
