"""Texts that are told whole again and again, each time with a little more at the end."""

from contextlib import suppress
from typing import Final

import msgspec

from headgate_gateway.calls.events import NO_JSON

START: Final = b"data: {"
TEXT: Final = b',"text_output":"'
"""What stands before the text. No text can look like it: its quotes are escaped."""
END: Final = b'"}\n\n'
"""What follows, where the text is an event's last field, as Triton writes it."""
UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"
"""What a detokenizer writes for the first tokens of a character that takes several."""

_STRING: Final = msgspec.json.Decoder(str).decode


class Growing:
    """Reads events that say what the one before said, and more: of these only what is new.

    Whatever is otherwise is not read here, and has to be decoded.
    """

    __slots__ = ("_before", "_begin")

    def __init__(self) -> None:
        self._before = b""  # the event before, up to where its text may go on; empty: unknown
        self._begin = 0  # where its text does

    def more(self, piece: bytes) -> str | None:
        """Return the text that an event adds. None: it differs in anything else.

        Behind what is the same there is the rest of a string, which the end closes: if it decodes
        as one, the event is JSON, and like the one before but for this text.
        """
        before = self._before
        if not before or not piece.startswith(before) or not piece.endswith(END):
            return None
        try:
            text = _STRING(b'"' + piece[len(before) : 1 - len(END)])
        except NO_JSON:
            return None
        if text.endswith(UNFINISHED):
            return None
        self._before = piece[: -len(END)]
        return text

    def learn(self, piece: bytes, text: str) -> bool:
        """Take what was decoded, if it is one event in the usual form, and says `text`."""
        if not piece.startswith(START) or not piece.endswith(END):
            return False
        if piece.find(b"\n") != len(piece) - 2:  # it is more than one line
            return False
        begin = piece.rfind(TEXT) + len(TEXT)
        if begin < len(TEXT):
            return False
        with suppress(*NO_JSON):
            if _STRING(b'"%s"' % piece[begin : -len(END)]) == text:
                self._before, self._begin = piece[: -len(END)], begin
                return True
        return False

    def forget(self) -> str | None:
        """Return the whole text of the event before, which is not known any more from here on."""
        before, self._before = self._before, b""
        return _STRING(b'"%s"' % before[self._begin :]) if before else None
