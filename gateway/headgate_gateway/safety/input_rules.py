"""Stage `input`: patterns that a SafetyPolicy lays over everything that a client wrote."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

import structlog

from headgate_gateway.metrics import Metrics
from headgate_gateway.refusals import PASS, Code, Refusal, Verdict
from headgate_gateway.request import Request
from headgate_gateway.routing.tables import Gate, Rule
from headgate_policy.patterns import prepared

log = structlog.get_logger(__name__)

WORK: Final = 64 * 1024
"""Characters times rules that the event loop may search itself: well below a millisecond."""
STANDARD: Final = "This request is against a content policy."


class InputRules:
    """Text of every role and of tools counts: none of it was written by the gateway.

    Any policy that refuses refuses; one in Shadow only counts.
    """

    name = "input"
    undecided = Refusal(
        Code.STAGE_UNDECIDED, 503, "The content policies could not be checked.", retry_after=1
    )
    budget = 2.0

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def decide(self, request: Request) -> Verdict | Awaitable[Verdict]:
        tenant, model = request.credential.tenant, request.asked.model
        space = request.tables.space(tenant.namespace)
        if not space.gates:
            return PASS
        bound = space.bound(tenant.name, model)
        gates = bound.gates
        if not gates:
            return PASS
        texts = [text for text in request.asked.texts if text]
        if sum(len(text) for text in texts) * bound.rules > WORK:
            return self._search_beside(gates, texts)
        found = find(gates, texts)
        return self._judge(found) if found else PASS

    async def _search_beside(self, gates: tuple[Gate, ...], texts: list[str]) -> Verdict:
        """Search long texts in a thread; RE2 lets the loop run meanwhile."""
        return self._judge(await asyncio.to_thread(find, gates, texts))

    def _judge(self, found: Sequence[tuple[Gate, Rule]]) -> Verdict:
        verdict: Verdict = PASS
        for gate, rule in found:
            policy = (gate.identity.namespace, gate.identity.name)
            if gate.body.shadow:
                self.metrics.shadow_matches.of(*policy).add()
            elif verdict is PASS:
                explained = rule.explanation or STANDARD
                verdict = Refusal(Code.CONTENT_FILTER, 400, explained, "messages")
            log.info(
                "input rule matched",
                policy="/".join(policy),
                rule=rule.name,
                shadow=gate.body.shadow,
            )
        return verdict


def find(gates: tuple[Gate, ...], texts: list[str]) -> list[tuple[Gate, Rule]]:
    """Return, for each gate, the first rule that is found in a text."""
    found = []
    searched = [prepared(text) for text in texts]
    for gate in gates:
        if gate.screen is not None and not gate.screen.finds_any(searched):
            continue
        for rule in gate.rules:
            if rule.pattern.finds_any(searched):
                found.append((gate, rule))
                break
    return found
