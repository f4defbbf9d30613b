"""Cheap guesses about a text: its language, and how much of it is code. Pure, and bounded."""

import re
from typing import Final

LANGUAGE_CHARACTERS: Final = 2048
"""That are looked at: more makes a guess no better."""
CODE_CHARACTERS: Final = 8 * 1024
"""That are looked at, from the end."""
UNKNOWN: Final = "und"

_SCRIPTS: Final = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\u1100-\u11ff\uac00-\ud7af]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
}
"""Letters that are enough to tell, in this order: Japanese has Chinese signs, and no Chinese text
has Japanese ones."""
_UKRAINIAN: Final = re.compile("[\u0404\u0406\u0407\u0454\u0456\u0457\u0490\u0491]")
"""Letters that Russian has not."""
_SHARE: Final = 0.2
"""Of the letters that must be of a script: a Greek word makes no Greek text."""
_WORDS: Final = {
    "en": "the and is are of to that what how you with for this from can not please write have",
    "de": "der die das und ist nicht ein eine wie was ich mit für auf den dem zu von bitte sind",
    "fr": "le la les et est une des que qui dans pour pas sur avec ce vous je comment quel sont",
    "es": "el los las y es una que por para con del como qué se más no cómo cuál está son",
    "it": "il lo gli e è una che per non con di come sono della nel più quale cosa questo",
    "pt": "o os as e é uma que para não com do da como em mais você qual são isso um",
    "nl": "de het een en is niet van ik je met voor op dat wat hoe zijn aan te deze kan",
}
"""The commonest words of languages in Latin letters."""
_BY_WORD: Final = {
    word: frozenset(code for code, words in _WORDS.items() if word in words.split())
    for words in _WORDS.values()
    for word in words.split()
}
_WORD: Final = re.compile(r"[^\W\d_]+")
_FENCES: Final = ("```", "~~~")
_CODE: Final = re.compile(
    r"[;{}]$"
    r"|^(def|class|import|from \w+ import|return|func|fn|let|const|var|public|private|static)\b"
    r"|^(if|for|while|elif|else|try|except)\b.*:$"
    r"|^(#include|#!|//|/\*|\*/|@\w+|</?\w+[^>]*>$)"
    r"|^[\w.\[\]]+\s*(\+|-|\*|/|:)?=\s*\S"
    r"|^(SELECT|INSERT|UPDATE|DELETE|CREATE)\s"
    r"|\w\([^()]*\)\s?[;:{]?$"
)
"""A line, without the space around it, that hardly anybody writes in prose.

Clients write the lines: nothing here looks at a character more than a few times.
"""


def language(text: str) -> str:
    """Guess the language of a text: a two-letter code, or `und`.

    By its letters where these tell, else by its commonest words. Code and names mislead it.

    >>> [language(text) for text in ("What is the tide?", "Wie hoch ist die Flut?", "潮の高さは?")]
    ['en', 'de', 'ja']
    >>> language("12345")
    'und'
    """
    text = text[:LANGUAGE_CHARACTERS]
    if not text.isascii():
        letters = sum(map(str.isalpha, text))
        for code, script in _SCRIPTS.items():
            if len(script.findall(text)) > letters * _SHARE:
                return "uk" if code == "ru" and _UKRAINIAN.search(text) else code
    scores: dict[str, float] = {}
    for word in _WORD.findall(text.lower()):
        codes = _BY_WORD.get(word, ())
        for code in codes:
            scores[code] = scores.get(code, 0.0) + 1 / len(codes)
    return max(scores, key=scores.__getitem__, default=UNKNOWN)


def code_share(text: str) -> float:
    r"""Guess which share of a text is code, from 0 to 1, by its characters.

    Code is what stands in fences, and lines that look like it.

    >>> code_share("Why does this fail?")
    0.0
    >>> code_share("```\nx = 1\n```")
    1.0
    """
    text = text[-CODE_CHARACTERS:]
    fenced, code, total = False, 0, 0
    for line in text.splitlines():
        said = line.strip()
        size = len(said)
        total += size
        if said.startswith(_FENCES):
            fenced = not fenced
            code += size
        elif fenced or _CODE.search(said):
            code += size
    return code / total if total else 0.0
