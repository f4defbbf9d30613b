"""The log's lines: in order, whole, never waiting for their reader, and counted where lost."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from headgate_gateway.telemetry.lines import Lines

LONG = 3600.0  # s: no test waits for it


class Pipe(NamedTuple):
    reader: int
    writer: int


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    for fd in pipe:
        with contextlib.suppress(OSError):  # a test closed it
            os.close(fd)


def everything(pipe: Pipe) -> bytes:
    os.set_blocking(pipe.reader, False)
    return os.read(pipe.reader, 1 << 20)


def test_lines_are_written_when_their_time_has_come(pipe: Pipe) -> None:
    lines = Lines(pipe.writer, every=0.001)
    lines.write(b"one\n")

    assert b"one\n" == os.read(pipe.reader, 100)  # waits for it
    lines.write(b"two\n")
    assert b"two\n" == os.read(pipe.reader, 100)
    lines.close()


def test_a_full_buffer_waits_for_nothing(pipe: Pipe) -> None:
    lines = Lines(pipe.writer, every=LONG, full=8)
    lines.write(b"one\n")
    lines.write(b"two\n")

    assert b"one\ntwo\n" == os.read(pipe.reader, 100)
    lines.close()


def test_closing_writes_what_waits(pipe: Pipe) -> None:
    lines = Lines(pipe.writer, every=LONG)
    lines.write(b"one\n")
    lines.close()
    lines.write(b"late\n")

    assert b"one\n" == everything(pipe)
    assert 1 == lines.lost


@pytest.mark.parametrize("blocking", [True, False])
def test_who_writes_never_waits_for_who_reads_and_what_is_lost_is_counted(
    pipe: Pipe, blocking: bool
) -> None:
    os.set_blocking(pipe.writer, blocking)
    lines = Lines(pipe.writer, every=LONG, full=100, most=1000)
    line = b"x" * 99 + b"\n"
    total = 2000  # more than a pipe and the buffer hold, and nobody reads
    for _ in range(total):
        lines.write(line)
    assert lines.lost > 0

    read = threading.Thread(target=lambda: got.append(drain(pipe)))
    got: list[bytes] = []
    read.start()
    lines.close(LONG)
    os.close(pipe.writer)
    read.join()
    assert total == got[0].count(b"\n") + lines.lost
    assert {line} == set(got[0].splitlines(keepends=True))


def drain(pipe: Pipe) -> bytes:
    pieces = []
    while piece := os.read(pipe.reader, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def test_lines_for_a_reader_that_is_gone_are_lost_and_harm_nobody(pipe: Pipe) -> None:
    os.close(pipe.reader)
    lines = Lines(pipe.writer, every=LONG)
    lines.write(b"one\n")
    lines.write(b"two\n")
    lines.close()

    assert 2 == lines.lost


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    lines = Lines(pipe.writer, every=0.001, full=64)
    got: list[bytes] = []
    read = threading.Thread(target=lambda: got.append(drain(pipe)))
    read.start()
    wrote = [f"{n}:{'y' * 50}\n".encode() for n in range(4)]
    writers = [
        threading.Thread(target=lambda n=n: [lines.write(n) for _ in range(200)]) for n in wrote
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    lines.close(LONG)
    os.close(pipe.writer)
    read.join()

    assert 0 == lines.lost
    assert sorted(wrote * 200) == sorted(got[0].splitlines(keepends=True))
