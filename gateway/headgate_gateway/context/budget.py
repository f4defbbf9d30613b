"""How many tokens of input a request may bring, and the words for one that brings more.

The sentences are OpenAI's: clients and their libraries look for "maximum context length".
"""

from typing import Final, final

from headgate_api.snapshot import ContextBody
from headgate_gateway.refusals import Code, Refusal
from headgate_policy.tokens import MARGIN

AROUND: Final = 512
"""Tokens that a chat template may add to the messages, and that need not be counted one by one."""
SHARE: Final = 2
"""What is left out makes room for an answer of the model's usual length, but at most for one of
half its context."""


@final
class Budget:
    """Tokens of input.

    Args:
        most: more are refused.
        wanted: what is left out makes room to here.
        context: what the model's context, or the route, allows in all.
        answer: that the client wants to be left for the answer; 0: it does not say.
    """

    __slots__ = ("answer", "context", "most", "wanted")

    def __init__(self, most: int, wanted: int, context: int, answer: int) -> None:
        self.most = most
        self.wanted = wanted
        self.context = context
        self.answer = answer

    def fits(self, size: int) -> bool:
        """Say whether `size` bytes are too few to hold too many tokens: each has one at least."""
        return size + AROUND <= self.most

    def refuses(self, tokens: int, *, exact: bool) -> bool:
        """Say whether so many are too many. An estimate is wrong by some."""
        return tokens > (self.most if exact else self.most * MARGIN)


def budget(context: int | None, rules: ContextBody, limit: int | None, usual: int) -> Budget | None:
    """Find the budget of one request. None: there is no limit.

    Args:
        context: tokens that the model reads and writes at most; None: nobody says.
        rules: of the route.
        limit: tokens of the answer that the client asks for; None: it does not say.
        usual: tokens of an answer where it does not say.
    """
    given = rules.max_input_tokens
    if context is None:
        return None if given is None else Budget(given, given, given, 0)
    least, room = (limit, limit) if limit is not None else (1, min(usual, context // SHARE))
    most, wanted = max(context - least, 0), max(context - room, 0)
    if given is None or given > most:
        return Budget(most, wanted, context, limit or 0)
    return Budget(given, min(given, wanted), given, 0)


def too_long(found: Budget, tokens: int, *, exact: bool, what: str) -> Refusal:
    """Refuse `tokens` of input.

    Args:
        found: the budget.
        tokens: of input, as they came.
        exact: they were counted, not estimated.
        what: the field of the body that they are in: messages, prompt or input.

    >>> too_long(Budget(80, 80, 80, 0), 90, exact=True, what="prompt").message.partition(". ")[2]
    'However, your prompt resulted in 90 tokens. Please reduce the length of the prompt.'
    """
    about = "" if exact else "about "
    if found.answer:
        said = (
            f"you requested {about}{tokens + found.answer} tokens ({tokens} in the {what}, "
            f"{found.answer} in the completion). Please reduce the length of the {what} or "
            "completion."
        )
    else:
        said = (
            f"your {what} resulted in {about}{tokens} tokens. Please reduce the length of the "
            f"{what}."
        )
    if not exact:
        said += " (The input was estimated, not counted.)"
    sentence = f"This model's maximum context length is {found.context} tokens. However, {said}"
    return Refusal(Code.CONTEXT_LENGTH_EXCEEDED, 400, sentence, what)
