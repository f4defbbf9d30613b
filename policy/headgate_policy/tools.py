"""How models write calls of tools: the dialects, and which of them a chat template teaches.

A template that shows tools to the model also shows it how to call them, so the marks of the
dialect stand in the template's own source.
"""

from typing import Final, NamedTuple


class Dialect(NamedTuple):
    """What is around a call, and how its JSON names the arguments."""

    begin: str
    """Mark before a call, or before a list of calls."""
    end: str
    """Mark after it; empty: the end of the JSON is enough."""
    opens: str
    """How an answer begins that must be a call."""
    arguments: str
    bare: bool
    """An answer that begins with the JSON is a call as well: detokenizers drop some marks."""
    short_ids: bool = False
    """Templates take ids of nine letters and digits alone."""

    def opening(self, name: str | None) -> str:
        r"""Write the beginning of a call, for a model that must go on with it.

        >>> HERMES.opening("clock")
        '<tool_call>\n{"name": "clock", "arguments": '
        """
        if name is None:
            return f'{self.opens}"name": "'
        return f'{self.opens}"name": "{name}", "{self.arguments}": '


HERMES: Final = Dialect("<tool_call>", "</tool_call>", "<tool_call>\n{", "arguments", bare=False)
MISTRAL: Final = Dialect(
    "[TOOL_CALLS]", "", "[TOOL_CALLS][{", "arguments", bare=True, short_ids=True
)
LLAMA: Final = Dialect("<|python_tag|>", "", "{", "parameters", bare=True)


def dialect_of(source: str) -> Dialect | None:
    """Find the dialect that a chat template teaches. None: it shows the model no tools.

    >>> dialect_of("{% for t in tools %}{{ t }}{% endfor %}<tool_call>") is HERMES
    True
    """
    if "tools" not in source:
        return None
    if HERMES.begin in source:
        return HERMES
    if MISTRAL.begin in source:
        return None if "[ARGS]" in source else MISTRAL  # the newer marks have no JSON around names
    if LLAMA.begin in source or '"parameters":' in source:
        return LLAMA
    return None
