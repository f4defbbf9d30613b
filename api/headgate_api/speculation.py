"""Speculative decoding: which variants guess ahead, and which requests a route sends to them.

A model server guesses for all of its requests or for none. So guessing is a property of a variant,
and a route chooses between a variant that guesses and its plain twin.
"""

from typing import Annotated, Literal

from pydantic import Field

from headgate_api.base import ApiModel, Rule
from headgate_api.snapshot import GuessedTools, SpeculationMode
from headgate_api.types import Percent, Source, Temperature, Tokens


class SpeculativeDecoding(ApiModel):
    """Tokens are guessed cheaply, several at a time, and the model checks them in one step."""

    validations = (
        Rule(
            "(self.type in ['eagle3', 'draft-target']) == has(self.draft)",
            "eagle3 and draft-target need draft.uri; mtp and ngram have none; this is {self.type}",
            ".draft",
        ),
        Rule(
            "!has(self.draft) || !self.draft.uri.matches('^hf://.+@') || "
            "self.draft.uri.endsWith('@main')",
            "a draft comes from Hugging Face as its main branch is: write @main, or pin it on a "
            "claim with pvc://; this is {self.draft.uri}",
            ".draft",
        ),
    )

    type: Literal["eagle3", "mtp", "ngram", "draft-target"]
    """Who guesses. `eagle3`: a head trained for the model. `draft-target`: a small model of the
    same vocabulary. `mtp`: layers of the checkpoint itself. `ngram`: earlier text of the prompt and
    the answer, where it repeats itself."""
    max_draft_tokens: Annotated[int, Field(ge=1, le=32)] = 3
    """Tokens that are guessed at a time, at most."""
    draft: Source | None = None
    """Where the head or the small model comes from. TensorRT-LLM takes no revision for one of
    Hugging Face but the main branch. A change replaces the pods one by one."""


class Speculation(ApiModel):
    """Which requests of a route go to variants that guess ahead, and when that is given up."""

    mode: SpeculationMode = "Auto"
    """Auto: to a variant that guesses, while it is worth it. Shadow: to a plain variant, and what
    would have been chosen is told. Never: to a plain variant."""
    percent: Percent = 100
    """Share of the requests that may go to a variant that guesses. Above 95 it is 95: the others
    show how fast plain variants are."""
    min_acceptance_percent: Percent = 40
    """Share of the guessed tokens that the model must accept; below it guessing is given up."""
    min_benefit_percent: Percent = 5
    """Share of the time per token that a guessing variant must save against a plain one, at like
    load; below it guessing is given up."""
    max_input_tokens: Tokens | None = None
    """Longest prompt for which is guessed. Absent: any."""
    max_temperature: Temperature | None = None
    """Highest temperature at which is guessed. Absent: any."""
    tool_calls: GuessedTools = "Skip"
    """Skip: a request that brings tools goes to a plain variant. Use: it is as any other."""
