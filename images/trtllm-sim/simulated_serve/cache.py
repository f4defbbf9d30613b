"""Which part of a prompt the KV cache holds already: blocks that earlier prompts began with."""

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """The blocks that were used last, each known by all the tokens up to its end."""

    def __init__(self, blocks: int, tokens_per_block: int) -> None:
        self._most = blocks
        self._size = tokens_per_block
        self._known: OrderedDict[int, None] = OrderedDict()

    def reuse(self, tokens: Sequence[str]) -> int:
        """Take a prompt in, and return how many of its first tokens were there.

        The last token is always read anew, as its logits are wanted.
        """
        cached, key = 0, 0
        for end in range(self._size, len(tokens), self._size):
            key = hash((key, *tokens[end - self._size : end]))
            if key in self._known and cached == end - self._size:
                cached = end
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return cached
