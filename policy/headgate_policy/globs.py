"""Globs over names of models and tenants: `*` stands for any characters, all else for itself."""

import re
from functools import lru_cache


def matches(globs: tuple[str, ...] | None, name: str) -> bool:
    """Tell whether a list of globs lets `name` through. None, an absent list, lets all through.

    >>> matches(("llama-*", "qwen"), "llama-3-1-8b"), matches(("qwen",), "qwen-2"), matches((), "x")
    (True, False, False)
    """
    return globs is None or _any_matches(globs, name)


@lru_cache(maxsize=4096)
def _any_matches(globs: tuple[str, ...], name: str) -> bool:
    return any(_compiled(glob).fullmatch(name) for glob in globs)


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    # Several `*` in a row would backtrack for nothing.
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", glob))), re.DOTALL)
