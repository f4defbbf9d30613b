import os
from pathlib import Path

import pytest

from headgate_cluster.files import cache_root, digest_of, forget_oldest, tail, write


def test_the_cache_is_where_the_user_wants_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert Path("/elsewhere/headgate") == cache_root()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert Path("/home/someone/.cache/headgate") == cache_root()


def test_a_written_file_has_its_mode_and_leaves_no_half(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "key", "secret", 0o600)
    assert "secret" == (tmp_path / "deep" / "key").read_text()
    assert 0o600 == (tmp_path / "deep" / "key").stat().st_mode & 0o777
    assert ["key"] == os.listdir(tmp_path / "deep")


@pytest.mark.parametrize("change", ["content", "name", "mode", "word"])
def test_a_digest_follows_all_that_counts(tmp_path: Path, change: str) -> None:
    file = tmp_path / "tool" / "main.go"
    write(file, "package main")
    before = digest_of([tmp_path], tmp_path, "flags")
    match change:
        case "content":
            write(file, "package other")
        case "name":
            file.rename(file.with_name("other.go"))
        case "mode":
            file.chmod(0o755)
    after = digest_of([tmp_path], tmp_path, "other" if change == "word" else "flags")
    assert before != after


def test_a_digest_ignores_where_the_tree_lies_and_what_python_left(tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "two"):
        root = tmp_path / place
        write(root / "tool" / "main.py", "pass")
        write(root / "tool" / "__pycache__" / "main.pyc", place)
        digests.add(digest_of([root / "tool"], root))
    assert 1 == len(digests)


@pytest.mark.parametrize(
    "error", ['E1125 15:20:29.1 1 model.cc:8] "no weights"', "a/b.py:5: error: a is no b"]
)
def test_the_tail_of_a_log_brings_errors_from_further_up(tmp_path: Path, error: str) -> None:
    log = tmp_path / "server.log"
    log.write_text("\n".join([error, *(f"line {n}" for n in range(40))]))
    assert [error, "line 38", "line 39"] == tail(log, 2).splitlines()


def test_a_log_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    assert "" == tail(tmp_path / "none.log")


def test_only_the_newest_builds_are_kept(tmp_path: Path) -> None:
    for age, name in enumerate(["newest", "newer", "new", "old", "oldest"]):
        path = tmp_path / name
        (path.mkdir if age % 2 else path.touch)()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))

    forget_oldest(tmp_path.iterdir())

    assert {"newest", "newer", "new"} == {path.name for path in tmp_path.iterdir()}
