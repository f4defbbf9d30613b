from pathlib import Path

import pytest

from headgate_cli.main import main


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_a_kubeconfig_of_the_user_is_used_and_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/theirs")
    assert 0 == main(["cluster", "up"])
    assert 0 == main(["cluster", "kubeconfig"])
    assert "/theirs\n/theirs\n" == capsys.readouterr().out
    assert [] == list(tmp_path.iterdir())


def test_images_cannot_be_loaded_into_a_cluster_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/theirs")
    assert 1 == main(["cluster", "load-image", "a:1=/a.tar"])
    assert "push images where that one pulls" in capsys.readouterr().err


def test_down_without_a_cluster_is_no_error() -> None:
    assert 0 == main(["cluster", "down"])


@pytest.mark.parametrize("action", ["status", "kubeconfig"])
def test_what_needs_a_cluster_says_how_to_start_one(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == main(["cluster", action])
    assert "`headgate cluster up` starts one" in capsys.readouterr().err


def test_a_bad_region_name_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert 1 == main(["cluster", "up", "--regions", "East"])
    assert "'East' cannot name a region" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())
