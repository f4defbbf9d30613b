"""How many tokens a request brings, by the model's own tokenizer or by an estimate."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_gateway.routing.pods import Pool
from headgate_policy.tokens import PER_MESSAGE, Calibration, estimate, estimate_soon

KEPT: Final = 10_000
"""Models whose calibration is kept."""
LONGEST: Final = 64 * 1024
"""Bytes of a body that is compared: of longer ones the estimate is less sure."""


def estimate_input(asked: Asked) -> int:
    """Estimate the tokens of all that the model is to read, before any calibration.

    Of a long text only samples are looked at: the event loop waits.
    """
    if isinstance(asked, ChatRequest):
        texts = [text for message in asked.messages for text in read_texts(message)]
        texts += tool_texts(asked)
        texts += [evidence.text for evidence in asked.context or ()]
        return estimate_soon("".join(texts)) + PER_MESSAGE * len(asked.messages)
    return estimate_soon("".join(asked.texts))


def read_texts(message: Message) -> Iterable[str]:
    """List what the model reads of a message."""
    if not message.name and not message.tool_calls:
        return (message.text,)
    calls = [call.function for call in message.tool_calls or ()]
    told = [text for call in calls for text in (call.name, call.arguments)]
    return (message.text, message.name or "", *told)


def tool_texts(chat: ChatRequest) -> list[str]:
    """List what the model reads of the tools, if it may see them."""
    if chat.tool_choice == "none":
        return []
    return [text for tool in chat.tools or () for text in tool.function.texts]


class Counter(NamedTuple):
    """Counts texts for one model."""

    count: Callable[[str], int]
    exact: bool
    """It is the model's own tokenizer."""

    def of_message(self, message: Message) -> int:
        return self.count("".join(read_texts(message))) + PER_MESSAGE


ESTIMATE: Final = Counter(estimate, exact=False)


class Calibrations:
    """What models' own counts say about the estimates of their inputs."""

    def __init__(self) -> None:
        self._of: dict[Pool, Calibration] = {}

    def counter(self, pool: Pool) -> Counter:
        """Return what estimates for a model."""
        known = self._of.get(pool)
        if known is None:
            return ESTIMATE
        return Counter(lambda text: known.apply(estimate(text)), exact=False)

    def learn(self, pool: Pool, asked: Asked, size: int, counted: int) -> None:
        """Compare a model's own count with an estimate, now and then.

        Args:
            pool: whose count it is.
            asked: what the model read, whole.
            size: bytes of its body.
            counted: the model's count of its input.
        """
        known = self._of.get(pool)
        if known is None:
            if len(self._of) >= KEPT:
                self._of.clear()
            known = self._of[pool] = Calibration()
        if size <= LONGEST and known.wants():
            known.learn(estimate_input(asked), counted)
