"""Errors. What a caller can do about one is its class; what happened is its message."""


class HeadgateError(Exception):
    """Everything that Headgate raises on purpose. Anything else is a bug."""


class TerminalError(HeadgateError):
    """Trying again cannot help; only a change of the object, the settings or our code can."""


class NotFound(TerminalError):
    """There is no such object."""


class Forbidden(TerminalError):
    """We may not do this. A role may be granted later, so callers that can wait try again."""


class Invalid(TerminalError):
    """The object breaks a rule of its kind; the message names field, value and rule."""


class Unavailable(HeadgateError):
    """The other side did not answer, or answered "later". Try again, not before `after`."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after  # s


class Conflict(Unavailable):
    """Somebody else wrote the object first. Look again, then try again."""
