from pathlib import Path

import pytest

from headgate_cluster import images
from headgate_cluster.containers import Archive, outdated


def test_tags_are_content_and_archives_lie_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    named = {image.name: image.archive for image in images.programs()}
    assert ["operator", "gateway", "triton-sim", "trtllm-sim"] == list(named)
    for name, archive in named.items():
        repository, _, tag = archive.tag.rpartition(":")
        assert f"localhost/headgate/{name}" == repository
        assert 12 == len(tag)
        assert tmp_path / "headgate" / "images" / f"{name}-{tag}.tar" == archive.path


def test_nothing_is_built_in_an_empty_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [] == images.built()


def test_only_older_tags_of_the_same_repository_are_outdated() -> None:
    wanted = [Archive("localhost/headgate/operator:new", Path("/a.tar"))]
    there = [
        "localhost/headgate/operator:new",
        "localhost/headgate/operator:old",
        "localhost/headgate/operator-of-a-user:old",
    ]
    assert ["localhost/headgate/operator:old"] == outdated(there, wanted)
