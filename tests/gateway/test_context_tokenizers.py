"""Models' own tokenizers: where they come from, and what they change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from headgate_api.errors import TerminalError, Unavailable
from headgate_api.snapshot import ContextBody, TokenizerBody
from headgate_cluster.files import TREE
from headgate_gateway.context import tokenizers
from headgate_gateway.context.counting import Counter
from headgate_gateway.context.egress import Egress
from headgate_gateway.context.tokenizers import MOST, PAUSE, TokenizerFiles, Tokenizers, counter_of

from .conftest import TENANT, Running, cohort, model
from .https_host import Host, https_host
from .test_calls import ask
from .test_context import PLAIN, Listening, behind, ensemble, said, talk

Start = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="module")
def content() -> bytes:
    """A byte-level tokenizer, trained on the manual."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    pages = [page.read_text() for page in sorted((TREE / "docs").glob("*.md"))]
    tokenizer.train_from_iterator(pages, trainer)
    return tokenizer.to_str().encode()


def digest(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


@pytest.fixture
def named(content: bytes, tmp_path: Path) -> TokenizerBody:
    path = tmp_path / "its tokenizer.json"
    path.write_bytes(content)
    return TokenizerBody(uri=path.as_uri(), digest=digest(content))


@pytest.fixture
def files(tmp_path: Path) -> TokenizerFiles:
    return TokenizerFiles(tmp_path / "kept", Egress().fetch)


def test_a_file_is_loaded_and_counts(
    files: TokenizerFiles, named: TokenizerBody, content: bytes
) -> None:
    counter = files.load(named)
    text = "The gateway counts."
    expected = len(Tokenizer.from_str(content.decode()).encode(text).ids)
    assert Counter(counter.count, exact=True) == counter
    assert (expected, 0) == (counter.count(text), counter.count(""))


@pytest.mark.parametrize(
    ("uri", "content", "says"),
    [
        ("file:///nowhere/tokenizer.json", b"", "no such file"),
        ("file:///dev/zero", b"", "no such file"),
        (None, b"{}", "no tokenizer.json"),
        (None, b"other", "another digest"),
        ("https://example.org/tokenizer.json", b"", "not among the hosts"),
    ],
)
def test_what_cannot_be_used_is_told(
    files: TokenizerFiles, tmp_path: Path, uri: str | None, content: bytes, says: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    wanted = TokenizerBody(uri=uri or path.as_uri(), digest=digest(b"{}"))
    with pytest.raises(TerminalError, match=says):
        files.load(wanted)


def test_a_file_may_not_be_larger_than_64_mib(
    files: TokenizerFiles, named: TokenizerBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "LARGEST", 1000)
    with pytest.raises(TerminalError, match="longer than 1000 bytes"):
        files.load(named)


# Beside the requests


class Loading:
    """Loads what it is asked for when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.now = 0.0
        self.found = Tokenizers(self, lambda: self.now)

    def __call__(self, wanted: TokenizerBody) -> Counter:
        self.asked.append(wanted.uri)
        if self.fault is not None:
            raise self.fault
        return Counter(len, exact=True)

    async def find(self, uri: str) -> Counter | None:
        """Ask, and ask again once it was seen to."""
        wanted = TokenizerBody(uri=uri, digest=uri)
        assert self.found.find(wanted) is None
        await self.found.settled()
        return self.found.find(wanted)


async def test_nobody_waits_for_a_tokenizer() -> None:
    loading = Loading()
    wanted = TokenizerBody(uri="a", digest="a")
    assert [None, None] == [loading.found.find(wanted), loading.found.find(wanted)]
    await loading.found.settled()
    assert loading.found.find(wanted) is not None
    assert ["a"] == loading.asked


async def test_one_that_cannot_be_used_is_tried_again_later() -> None:
    loading = Loading()
    loading.fault = Unavailable("not now")
    with capture_logs() as logs:
        assert await loading.find("a") is None
    assert ["tokenizer cannot be used"] == [line["event"] for line in logs]
    loading.fault = None
    assert await loading.find("a") is None
    loading.now += PAUSE
    assert await loading.find("a") is not None
    assert ["a", "a"] == loading.asked


async def test_a_fault_of_ours_is_no_reason_to_try_at_once() -> None:
    loading = Loading()
    loading.fault = ZeroDivisionError()
    wanted = TokenizerBody(uri="a", digest="a")
    for _ in range(3):
        loading.found.find(wanted)
        with pytest.raises(ZeroDivisionError):
            await next(iter(loading.found._loading.values()))
        assert loading.found.find(wanted) is None
        assert {} == loading.found._loading
        loading.now += PAUSE
    assert ["a", "a", "a"] == loading.asked


async def test_those_used_last_stay_in_memory() -> None:
    loading = Loading()
    for number in range(MOST):
        assert await loading.find(str(number)) is not None
    first = TokenizerBody(uri="0", digest="0")
    assert loading.found.find(first) is not None  # it is used last now
    assert await loading.find("one more") is not None
    assert loading.found.find(first) is not None
    assert loading.found.find(TokenizerBody(uri="1", digest="1")) is None
    await loading.found.settled()


# What they change


@pytest.fixture
def exactly(content: bytes) -> Callable[[str], int]:
    return counter_of(content).count


async def with_tokenizer(
    start: Start, files: TokenizerFiles, *scripts: Any, **more: Any
) -> Running:
    running = await start(*scripts, **more)
    preparation = running.gateway.preparation
    preparation.tokenizers = Tokenizers(files.load, lambda: 0.0)
    await ask(running, messages=[said("user", "Hi")])  # now it is wanted
    await preparation.tokenizers.settled()
    return running


async def test_a_prompt_is_refused_by_exactly_one_token(
    start: Start, files: TokenizerFiles, named: TokenizerBody, exactly: Callable[[str], int]
) -> None:
    text = "word " * 300
    limit = exactly(f"user: {text}\n")
    of = {"chat_template": PLAIN, "tokenizer": named}
    fits = model(cohort(runtime="triton-python"), max_context_tokens=limit + 20, **of)
    running = await with_tokenizer(start, files, ensemble, entries=(fits, TENANT))
    messages = [said("user", text)]

    assert 200 == (await ask(running, messages=messages, max_tokens=20)).status
    exchange = await ask(running, messages=messages, max_tokens=21)
    assert (400, "context_length_exceeded") == (exchange.status, exchange.code)
    assert exchange.events[0]["error"]["message"] == (
        f"This model's maximum context length is {limit + 20} tokens. However, you requested "
        f"{limit + 21} tokens ({limit} in the messages, 21 in the completion). Please reduce the "
        "length of the messages or completion."
    )


async def test_where_the_client_is_silent_the_answer_gets_what_is_left(
    start: Start, files: TokenizerFiles, named: TokenizerBody, exactly: Callable[[str], int]
) -> None:
    text = "word " * 300
    limit = exactly(f"user: {text}\n") + 7
    of = {"chat_template": PLAIN, "tokenizer": named}
    fits = model(cohort(runtime="triton-python"), max_context_tokens=limit, **of)
    server = Listening(ensemble)
    running = await with_tokenizer(start, files, server, entries=(fits, TENANT))
    assert 200 == (await ask(running, messages=[said("user", text)])).status
    assert 7 == server.asked[-1]["max_tokens"]


async def test_what_is_left_out_is_counted_by_the_whole_prompt(
    start: Start, files: TokenizerFiles, named: TokenizerBody, exactly: Callable[[str], int]
) -> None:
    rules = ContextBody(max_input_tokens=200, truncate=True)
    of = model(cohort(runtime="triton-python"), chat_template=PLAIN, tokenizer=named)
    server = Listening(ensemble)
    entries = behind(rules, of)
    running = await with_tokenizer(start, files, server, entries=entries)
    assert 200 == (await ask(running, messages=talk(8))).status

    prompt = server.asked[-1]["text_input"]
    assert exactly(prompt) <= 200
    assert prompt.endswith("user: And now?\n")


async def test_a_server_that_writes_the_prompt_itself_is_only_estimated(
    start: Start, files: TokenizerFiles, named: TokenizerBody, exactly: Callable[[str], int]
) -> None:
    text = "word " * 300
    of = model(cohort(runtime="trtllm-serve"), max_context_tokens=exactly(text), tokenizer=named)
    running = await with_tokenizer(start, files, ensemble, entries=(of, TENANT))
    assert 400 != (await ask(running, messages=[said("user", text)], max_tokens=20)).status


async def test_the_event_loop_runs_while_one_is_loaded(
    files: TokenizerFiles, named: TokenizerBody
) -> None:
    found = Tokenizers(files.load, lambda: 0.0)
    assert found.find(named) is None
    turns = 0
    settled = asyncio.create_task(found.settled())
    while not settled.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1
    assert found.find(named) is not None


# Fetched


@pytest.fixture
def host() -> Iterator[Host]:
    with https_host() as running:
        yield running


def test_what_was_fetched_is_kept_by_its_digest(host: Host, content: bytes, tmp_path: Path) -> None:
    host.body = content
    files = TokenizerFiles(tmp_path / "kept", host.egress().fetch)
    wanted = TokenizerBody(uri=f"https://{host.name}/t.json", digest=digest(content))
    first, second = files.load(wanted), files.load(wanted)
    assert (1, first.count("a word")) == (len(host.paths), second.count("a word"))
    assert [f"{sha256(content).hexdigest()}.json"] == [
        f.name for f in (tmp_path / "kept").iterdir()
    ]


def test_what_has_another_digest_is_not_kept(host: Host, tmp_path: Path) -> None:
    files = TokenizerFiles(tmp_path / "kept", host.egress().fetch)
    with pytest.raises(TerminalError, match="another digest"):
        files.load(TokenizerBody(uri=f"https://{host.name}/t.json", digest=digest(b"other")))
    assert not (tmp_path / "kept").exists()
