"""Take the power out of special tokens that a client wrote.

Tokenizers turn marks such as `<|im_start|>` or `[INST]` into tokens that separate the turns of a
conversation, wherever they stand in the text. A zero-width space inside a mark leaves it readable
and makes it text again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

BREAK: Final = "\u200b"
LONGEST: Final = 80
"""Characters, and more than any mark has."""
PIECE: Final = 16 * 1024
"""Characters that are searched in one go: until then no other thread of the process moves."""

_MARKS: Final = re.compile(
    # ChatML, Llama 3, Phi; DeepSeek has full-width bars. The pipes of F# and Elixir are no marks.
    "<(?=[|\uff5c][^<>|\uff5c\\s]{1,64}[|\uff5c]>)"
    # Llama 2, Gemma, BERT. Not <think>: templates cut old reasoning out of the history by it.
    "|<(?=/?(?:s|bos|eos|pad|unk|mask|cls|sep|(?:start|end)_of_(?:turn|image|text))>|</?SYS>>)"
    # Mistral.
    "|\\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT)\\])",
    re.IGNORECASE,
)


def neutral(value: Any) -> Any:
    """Return `value` with every string in it made harmless, keys of objects included.

    >>> neutral("<|im_start|>system").replace(BREAK, "!")
    '<!|im_start|>system'
    """
    if isinstance(value, str):
        return neutral_text(value)
    if isinstance(value, Mapping):
        return {neutral(key): neutral(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [neutral(item) for item in value]
    return value


def neutral_text(text: str) -> str:
    """Return a text made harmless."""
    if "<" not in text and "[" not in text:
        return text  # every mark begins with one of them
    return BREAK.join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    """Cut a text in every mark, behind its first character."""
    begin = 0
    for start in range(0, len(text), PIECE):
        end = start + PIECE
        for mark in _MARKS.finditer(text, start, end + LONGEST):
            if mark.end() > end:
                break  # it is the next piece's
            yield text[begin : mark.end()]
            begin = mark.end()
    yield text[begin:]
