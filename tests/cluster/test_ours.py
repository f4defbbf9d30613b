from pathlib import Path
from zipfile import ZipFile

import pytest

from headgate_cluster import ours


def test_what_is_unpacked_is_what_has_compiled_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local cluster's package finds the checkout by its own place, and so must stay there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "headgate" / "ours" / ours.digest()
    folder.mkdir(parents=True)
    with ZipFile(folder / "headgate-0-cp311-cp311-linux_x86_64.whl", "w") as archive:
        for name in ("fast/a.py", "fast/a.so", "shared.so", "slow/b.py"):
            archive.writestr(name, "")

    assert folder / "headgate-0-cp311-cp311-linux_x86_64.whl" == ours.wheel()
    unpacked = ours.unpacked()
    files = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()}
    assert {"fast/a.py", "fast/a.so", "shared.so"} == files
    assert unpacked == ours.unpacked()
