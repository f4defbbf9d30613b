import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate_cluster.commands import TIED, run, run_long, until
from headgate_cluster.errors import ClusterError


def test_a_command_answers_with_its_output() -> None:
    assert "river\n" == run("tr", "a-z", "A-Z", stdin="RIVER\n").lower()


def test_a_failed_command_is_an_error_with_its_last_words() -> None:
    with pytest.raises(ClusterError, match=r"sh -c .* ended with 3:\nno disk"):
        run("sh", "-c", "echo no disk >&2; exit 3")


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(ClusterError, match="no-such-tool is not installed"):
        run("no-such-tool")


def test_a_long_command_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"(?s)building: .* ended with 1:\n.*cannot link"):
        run_long(
            *("sh", "-c", "echo cannot link; exit 1"),
            what="building",
            log=tmp_path / "log",
            seconds=60,
        )


def test_waiting_ends_with_the_first_true_answer() -> None:
    answers = iter([0, "", "ready"])
    assert "ready" == until(lambda: next(answers), "answer", seconds=60, every=0)


def test_an_error_of_a_condition_means_not_yet() -> None:
    answers = iter([ConnectionRefusedError, True])

    def condition() -> bool:
        if (answer := next(answers)) is True:
            return True
        raise answer

    assert until(condition, "server", seconds=60, every=0)


def test_waiting_in_vain_says_what_was_seen_last() -> None:
    def condition() -> bool:
        raise ConnectionRefusedError("port 1")

    with pytest.raises(ClusterError, match=r"server: not in 0 s \(port 1\)\nlog line"):
        until(condition, "server", seconds=0, last_words=lambda: "log line")


def test_a_tied_command_ends_with_whoever_started_it(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    script = (
        "import os, subprocess, sys\n"
        "subprocess.Popen([*sys.argv[2:], 'sh', '-c', f'exec sleep 600 3>{sys.argv[1]}'])\n"
        "open(sys.argv[1]).read(0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script, str(fifo), *TIED])
    with fifo.open() as end:
        assert "" == end.read()  # the writer is gone
    assert -9 == starter.wait()
