"""Log probabilities on their way through segments: each goes with the text of its token."""

from msgspec import Raw

from headgate_gateway.calls.events import NO_JSON, Reasoning, Text
from headgate_gateway.streaming.logprob_body import decode_logprob


def behind(event: Text | Reasoning, start: int) -> Text | Reasoning:
    """Return what is left of an event behind its first `start` characters."""
    text = event.text[start:]
    if isinstance(event, Reasoning):
        return Reasoning(text)
    if not event.logprobs:
        return Text(text)
    return Text(text, tuple(raw for place, raw in tokens(event) if place > start))


def tokens(text: Text | Reasoning) -> list[tuple[int, Raw]]:
    """List an event's log probabilities, each with where its token ends."""
    places: list[tuple[int, Raw]] = []
    if isinstance(text, Reasoning):
        return places
    place, end = 0, len(text.text)
    for raw in text.logprobs:
        place = min(place + _length(raw), end)
        places.append((place, raw))
    if places:
        places[-1] = (end, places[-1][1])  # whatever a model server takes for a token
    return places


def _length(logprob: Raw) -> int:
    try:
        return len(decode_logprob(logprob).token)
    except NO_JSON:
        return 0
