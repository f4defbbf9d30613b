"""Which sequences get a slot, and which tokens are due: continuous batching without a clock.

An iteration is `begin(now)`, which admits and says how long the step takes, a pause of that length,
and `finish(now)`, which says what came out. Prompts are read in chunks, so that a long one slows
the batch down but does not stop it.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from simulated_llm.answer import Answer
from simulated_llm.settings import Model

Client = TypeVar("Client")
CHUNK: Final = 256  # tokens of prompts that one iteration reads


class Event(Enum):
    """What an iteration brings a sequence."""

    NEXT = "one more token"
    LAST = "the last token"
    FAILURE = "the failure that its script asks for"
    DEATH = "the death of the process that its script asks for"


@dataclass(slots=True, eq=False)
class Sequence(Generic[Client]):
    """A request on its way. `client` is whoever asked; the scheduler only carries it."""

    client: Client
    answer: Answer
    unread: int = 0  # tokens of the prompt
    blocks: int = 0  # of the KV cache, held while it has a slot
    sent: int = 0  # tokens
    before: int = 0  # of them, before the last step
    drafted: int = 0  # tokens that were guessed
    accepted: int = 0  # of them, right
    due: float = 0.0  # when its next token may come
    expires: float = inf  # when nobody wants it any more
    arrived: float = 0.0
    scheduled: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0

    @property
    def acceptance(self) -> float:
        return self.accepted / self.drafted if self.drafted else 0.0


class Counts(NamedTuple):
    """What the metrics tell."""

    scheduled: int
    waiting: int
    context: int  # sequences in prefill
    context_tokens: int
    blocks_used: int
    iterations: int


class Scheduler(Generic[Client]):
    """Slots, the queue before them, and the KV cache. Times are seconds of any steady clock."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._settings = model.settings
        self._context = self._context_tokens = 0
        self._blocks_used = 0
        self._iterations = 0
        self.waiting: deque[Sequence[Client]] = deque()
        self.active: list[Sequence[Client]] = []

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.active

    def counts(self) -> Counts:
        return Counts(
            scheduled=len(self.active),
            waiting=len(self.waiting),
            context=self._context,
            context_tokens=self._context_tokens,
            blocks_used=self._blocks_used,
            iterations=self._iterations,
        )

    def submit(self, sequence: Sequence[Client], now: float) -> bool:
        """Put `sequence` into the queue. False: the queue is full."""
        limit = self._settings.max_waiting
        if limit and len(self.waiting) >= limit:
            return False
        answer = sequence.answer
        tokens = answer.input_tokens + len(answer.ends)
        # What is larger than the cache gets all of it: a simulation need not refuse.
        sequence.blocks = min(
            -(-tokens // self._settings.tokens_per_block), self._settings.kv_blocks
        )
        sequence.unread = answer.input_tokens - answer.cached_tokens
        sequence.arrived = now
        self.waiting.append(sequence)
        return True

    def drop(self, sequence: Sequence[Client]) -> bool:
        """Forget `sequence`; its slot and blocks are free for the next iteration.

        False: it was not here, or has ended.
        """
        if sequence in self.active:
            self._release(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            return False
        return True

    def expire(self, now: float) -> list[Sequence[Client]]:
        """Drop those whose time is over, wherever they are, and return them."""
        over = [each for each in (*self.active, *self.waiting) if each.expires <= now]
        for sequence in over:
            self.drop(sequence)
        return over

    def begin(self, now: float) -> float | None:
        """Admit what fits and return how long this iteration takes, in seconds.

        None: there is nothing to compute before `next_due()`, unless a request comes or goes.
        """
        self._admit(now)
        if not any(sequence.unread or sequence.due <= now for sequence in self.active):
            return None
        self._context_tokens = self._read_prompts()
        # Each guess is checked as one more sequence would be: in a full batch it does not pay.
        guesses = self._model.draft_len
        batch = self._settings.step_ms_per_sequence / 1000 * len(self.active) * (1 + guesses)
        drafting = self._settings.draft_ms / 1000 * guesses
        prefill = self._context_tokens / self._settings.prefill_tokens_per_s
        return self._model.step_s + drafting + batch + prefill

    def next_due(self) -> float:
        """Return when a token or an expiry may come; infinity if only a change can bring one."""
        expiries = (each.expires for each in (*self.active, *self.waiting))
        return min(chain((each.due for each in self.active), expiries), default=inf)

    def finish(self, now: float) -> list[tuple[Sequence[Client], Event]]:
        """End the iteration: what came out, in the order of admission."""
        self._iterations += 1
        self._context = self._context_tokens = 0
        ready = [each for each in self.active if not each.unread and each.due <= now]
        return [(each, event) for each in ready if (event := self._advance(each, now))]

    def _admit(self, now: float) -> None:
        while self.waiting and len(self.active) < self._settings.slots:
            sequence = self.waiting[0]
            # First come, first served: a small request does not pass a large one.
            if self._blocks_used + sequence.blocks > self._settings.kv_blocks:
                return
            self.waiting.popleft()
            sequence.scheduled = now
            sequence.due = now + sequence.answer.script.wait
            self._blocks_used += sequence.blocks
            self.active.append(sequence)

    def _read_prompts(self) -> int:
        """Read the next chunk of the prompts, oldest first, and return its length."""
        room = CHUNK
        self._context = 0
        for sequence in self.active:
            part = min(sequence.unread, room)
            self._context += bool(part)
            sequence.unread -= part
            room -= part
        return CHUNK - room

    def _advance(self, sequence: Sequence[Client], now: float) -> Event | None:
        script = sequence.answer.script
        if sequence.sent == script.die_after:
            return Event.DEATH
        if sequence.sent == script.silent_after:
            sequence.due = inf
            return None
        if sequence.sent == script.fail_after:
            self._release(sequence)
            return Event.FAILURE
        sequence.first_token = sequence.first_token or now
        sequence.last_token = now
        sequence.due = now + script.slow
        sequence.before = sequence.sent
        sequence.sent = min(sequence.sent + 1 + self._guess(sequence), len(sequence.answer.ends))
        if sequence.sent < len(sequence.answer.ends):
            return Event.NEXT
        self._release(sequence)
        return Event.LAST

    def _guess(self, sequence: Sequence[Client]) -> int:
        """Guess on from the token of this step, and tell how many guesses are right.

        So many that the share of all guesses is kept, and none behind what a script stops at. The
        step that reads the prompt guesses nothing.
        """
        if not sequence.sent or not self._model.draft_len:
            return 0
        script, length = sequence.answer.script, len(sequence.answer.ends)
        stops = (script.die_after, script.silent_after, script.fail_after, length)
        room = min(stop for stop in stops if stop is not None and stop > sequence.sent)
        percent = self._settings.acceptance_percent if script.accept is None else script.accept
        sequence.drafted += self._model.draft_len
        due = percent * sequence.drafted // 100 - sequence.accepted
        right = min(due, self._model.draft_len, room - sequence.sent - 1)
        sequence.accepted += right
        return right

    def _release(self, sequence: Sequence[Client]) -> None:
        self.active.remove(sequence)
        self._blocks_used -= sequence.blocks
