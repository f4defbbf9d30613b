"""Chat templates: how a conversation becomes the one text that a model reads.

A template is code from a checkpoint or from a ModelDeployment, and the conversation is text from
anybody; neither is trusted. Templates run in a bounded sandbox, and nothing that a client wrote can
pass for one of the marks that separate the turns.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from headgate_api.errors import TerminalError
from headgate_policy.neutral import neutral, neutral_text
from headgate_policy.tools import dialect_of

if TYPE_CHECKING:
    from headgate_policy.sandbox import BoundedTemplate

LONGEST_SOURCE: Final = 64 * 1024
WEIGHT: Final = 8 * 1024 * 1024
"""Characters of any one value as it would be written out, the output included."""
COMPILED: Final = 256
"""Templates that stay compiled: those used last."""
STANDARD: Final = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content or '' }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML: what most checkpoints without a template of their own were tuned on."""

SAMPLES: Final[tuple[tuple[dict[str, str], ...], ...]] = (
    ({"role": "user", "content": "Hello"},),
    ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}),
    (
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello! What can I do?"},
        {"role": "user", "content": "Count to three."},
    ),
)


class TemplateInvalid(TerminalError):
    """The template cannot be used: its owner must change it."""


class ConversationRefused(TerminalError):
    """The template cannot write down these messages, and says why: the client must change them."""


class ChatTemplate:
    """A compiled template. `prompt()` may be called from several requests in turn."""

    def __init__(self, source: str) -> None:
        if len(source.encode()) > LONGEST_SOURCE:
            raise TemplateInvalid(f"the template is longer than {LONGEST_SOURCE} bytes")
        self.standard = source == STANDARD
        """It looks at nothing but roles and texts: see `of_turns`."""
        self.dialect = dialect_of(source)
        """How it teaches the model to call tools; None: it does not."""
        self._template = None if self.standard else _bounded_template(source)

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        now: datetime | None = None,
    ) -> str:
        """Write `messages` down, ready for the assistant's turn.

        Args:
            messages: as the client sent them, `content` joined to one string.
            tools: as the client sent them, if any.
            now: what `strftime_now()` of templates tells; None: they have no such function.

        Raises:
            ConversationRefused: the template's own `raise_exception()`.
            TemplateInvalid: it fails, or asks for too much time or memory.
        """
        if self._template is None:
            return self.of_turns([(neutral(m["role"]), m["content"] or "") for m in messages])
        return _bounded(self._template.render(messages, tools, now))

    def of_turns(self, turns: list[tuple[str, str]]) -> str:
        """Write down what the standard template renders: Jinja takes ten times as long for it.

        Args:
            turns: roles, which no client wrote, and texts.
        """
        text = ""
        for role, said in turns:
            text += f"<|im_start|>{role}\n{neutral_text(said)}<|im_end|>\n"
        return _bounded(f"{text}<|im_start|>assistant\n")


@lru_cache(maxsize=COMPILED)
def chat_template(source: str | None) -> ChatTemplate:
    """Compile `source`, or the standard template. Raises `TemplateInvalid`."""
    return ChatTemplate(STANDARD if source is None else source)


def check_template(source: str) -> str | None:
    """Render sample conversations. Tells what is wrong in a sentence, or None.

    A template may refuse a sample (some have no system role), but not a plain question.

    >>> check_template("{{ messages[0].content }")
    "line 1: unexpected '}'"
    """
    try:
        template = ChatTemplate(source)
        for sample in SAMPLES:
            try:
                text = template.prompt(sample)
            except ConversationRefused as refusal:
                if len(sample) == 1:
                    return f"it refuses a single user message: {refusal}"
                continue
            if sample[-1]["content"] not in text:
                return "the rendered text lacks the user's last message"
    except TemplateInvalid as error:
        return str(error)
    return None


def _bounded_template(source: str) -> "BoundedTemplate":
    # Only who has a template pays for Jinja: 2 MiB.
    from headgate_policy.sandbox import BoundedTemplate  # noqa: PLC0415

    return BoundedTemplate(source)


def _bounded(text: str) -> str:
    if len(text) > WEIGHT:
        raise TemplateInvalid(f"the text has more than {WEIGHT} characters")
    return text
