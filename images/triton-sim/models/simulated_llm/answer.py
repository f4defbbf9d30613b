"""The whole answer to a request, known before its first token is sent."""

import itertools
from dataclasses import dataclass, field

from simulated_llm import prose
from simulated_llm.prose import Drift
from simulated_llm.script import Script, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What either wire format asks for."""

    prompt: str
    max_tokens: int
    seed: int = 0
    stops: tuple[str, ...] = ()
    forced: str | None = None
    """All that guided decoding leaves to say. A script goes before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A text, where its tokens end, and why it ends."""

    text: str
    ends: tuple[int, ...]  # index in `text` behind each token, ascending
    finish_reason: str  # "stop" or "length"
    stop_reason: str | None = None  # the stop word that ended it
    input_tokens: int = 1
    cached_tokens: int = 0  # of them, in the KV cache already
    script: Script = field(default_factory=Script)

    def upto(self, count: int) -> str:
        """Return the text of the first `count` tokens."""
        return self.text[: self.ends[count - 1]] if count else ""

    def piece(self, before: int, count: int) -> str:
        """Return the text that the tokens after the first `before` add, up to `count` of all."""
        return self.upto(count)[len(self.upto(before)) :]


def answer(ask: Ask, drift: Drift, variant: str = "") -> Answer:
    """Decide everything about the answer of a variant but its timing.

    Raises:
        ValueError: the request or its script makes no sense.
    """
    if ask.max_tokens < 1:
        raise ValueError(f"max_tokens is {ask.max_tokens}; it must be at least 1")
    script = parse(ask.prompt, variant)
    limit = ask.max_tokens + 1  # one more than may be said tells `stop` from `length`
    said = list(itertools.islice(_tokens(ask, script, drift), limit))
    reason, stop_reason = "stop", None
    if len(said) > ask.max_tokens:
        said.pop()
        reason = "length"
    text = "".join(said)
    ends = tuple(itertools.accumulate(map(len, said)))
    if found := _first_stop(text, ask.stops):
        cut, stop_reason = found
        text = text[:cut]
        ends = tuple(min(end, cut) for start, end in itertools.pairwise((0, *ends)) if start < cut)
        reason = "stop"
    return Answer(
        text=text,
        ends=ends,
        finish_reason=reason,
        stop_reason=stop_reason,
        input_tokens=max(1, len(prose.tokens(ask.prompt))),
        script=script,
    )


def _tokens(ask: Ask, script: Script, drift: Drift) -> itertools.chain[str]:
    if script.text is not None:
        return itertools.chain(prose.tokens(script.text))
    if ask.forced is not None:
        return itertools.chain(prose.tokens(ask.forced))
    written = prose.sentences(ask.prompt, ask.seed, drift)
    if script.tokens is None:
        length = prose.natural_length(ask.prompt, ask.seed)
        return itertools.chain.from_iterable(map(prose.tokens, itertools.islice(written, length)))
    endless = itertools.chain.from_iterable(map(prose.tokens, written))
    return itertools.chain(itertools.islice(endless, script.tokens))


def _first_stop(text: str, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Find where the first stop word begins; of two at one place, the longer one."""
    found = ((text.find(stop), -len(stop), stop) for stop in stops if stop and stop in text)
    first = min(found, default=None)
    return (first[0], first[2]) if first else None
