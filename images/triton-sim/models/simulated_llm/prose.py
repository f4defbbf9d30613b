"""Text that reads like prose and depends on nothing but its arguments."""

import hashlib
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:\w{1,10}|[^\w\s])|\s+$")

# Each phrase has a second wording. A precision that drifts picks it now and then, so that two
# variants give texts of the same length and sense which differ in a few words.
_OPENINGS = (
    ("", ""),
    ("", ""),
    ("", ""),
    ("as a rule,", "in general,"),
    ("by evening,", "towards evening,"),
    ("in short,", "briefly,"),
    ("on most days,", "most days,"),
)
_SUBJECTS = (
    ("the keeper of the old lighthouse", "the guard of the old lighthouse"),
    ("a quiet harbour", "a calm harbour"),
    ("the crew of a small ferry", "the crew of a little ferry"),
    ("every chart in the office", "each chart in the office"),
    ("the tide table", "the table of tides"),
    ("a careful pilot", "a cautious pilot"),
    ("the night watch", "the late watch"),
    ("the woman who mends the nets", "the woman who repairs the nets"),
)
_VERBS = (
    ("keeps", "holds"),
    ("explains", "describes"),
    ("remembers", "recalls"),
    ("compares", "weighs"),
    ("writes down", "notes down"),
    ("shares", "offers"),
)
_OBJECTS = (
    ("a record of every boat that passes", "a list of every boat that passes"),
    ("the shortest way home", "the quickest way home"),
    ("what the storm left behind", "what the gale left behind"),
    ("three simple rules", "three plain rules"),
    ("the price of fresh fish", "the cost of fresh fish"),
    ("how the light is turned", "how the lamp is turned"),
    ("a story from last winter", "a tale from last winter"),
)
_ENDINGS = (
    ("", ""),
    (" before the fog comes in", " before the mist comes in"),
    (", and nobody minds", ", and no one minds"),
    (" without a single word", " without one word"),
    ("; the rest can wait", "; the others can wait"),
    (" when the wind allows it", " when the wind permits it"),
)
_MARKS = (".",) * 8 + ("?", "!")


@dataclass(frozen=True, slots=True)
class Drift:
    """How a precision differs from the others."""

    name: str  # which phrases it changes
    share: float  # of phrases, 0.0 to 1.0


def sentences(prompt: str, seed: int, drift: Drift) -> Iterator[str]:
    """Write without end: sentences, each with the space or blank line before it.

    The same prompt and seed give the same sentences; `drift` swaps single phrases of them.
    """
    draws = _draws(prompt, seed)
    drifts = _draws(prompt, seed, drift.name)

    def pick(phrases: tuple[tuple[str, str], ...]) -> str:
        usual, other = phrases[next(draws) % len(phrases)]
        return other if next(drifts) < drift.share * 2**32 else usual

    for number in itertools.count():
        words = (pick(_OPENINGS), pick(_SUBJECTS), pick(_VERBS), pick(_OBJECTS))
        sentence = " ".join(filter(None, words)) + pick(_ENDINGS)
        gap = "" if number == 0 else "\n\n" if number % 4 == 0 else " "
        yield gap + sentence[0].upper() + sentence[1:] + _MARKS[next(draws) % len(_MARKS)]


def natural_length(prompt: str, seed: int) -> int:
    """Return how many sentences the model has to say, 3 to 9."""
    return 3 + next(_draws("length", prompt, seed)) % 7


def tokens(text: str) -> list[str]:
    """Cut `text` as a tokenizer might; joined again, the tokens are the text.

    >>> tokens("Good morning, dear lighthousekeeper")
    ['Good', ' morning', ',', ' dear', ' lighthouse', 'keeper']
    """
    return _TOKEN.findall(text)


def _draws(*key: object) -> Iterator[int]:
    """Give 32-bit numbers without end. Not `random`: the same on every Python version."""
    for block in itertools.count():
        digest = hashlib.blake2b(repr((key, block)).encode("utf-8", "replace")).digest()
        yield from struct.unpack("<16I", digest)
