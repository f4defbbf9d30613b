"""What pyproject.toml says of compiled modules holds, and the images' form is what it says."""

import runpy
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

ROOT: Final = Path(__file__).parents[2]
HOOKS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["hooks"]
DECLARED: Final[dict[str, Any]] = HOOKS["custom"]
COMPILED: Final = sorted(runpy.run_path(str(ROOT / "hatch_build.py"))["compiled"](ROOT, **DECLARED))
INTERPRETED: Final[dict[str, list[str]]] = DECLARED["interpreted"]


def structs(module: str) -> Iterator[str]:
    for found in vars(import_module(module)).values():
        ours = isinstance(found, type) and found.__module__ == module
        if ours and issubclass(found, msgspec.Struct):
            yield f"{module}.{found.__name__}"


def test_no_compiled_module_defines_a_struct() -> None:
    """Nor one that inherits from another's: a Struct needs the class body that Python runs."""
    assert [] == [name for module in COMPILED for name in structs(module)]


def test_modules_that_are_interpreted_for_their_structs_have_some() -> None:
    assert [] == [module for module in INTERPRETED["structs"] if not list(structs(module))]


def test_what_is_left_out_is_there_and_named_once() -> None:
    named = [module for modules in INTERPRETED.values() for module in modules]
    assert [] == [module for module in named if find_spec(module) is None]
    assert len(named) == len(set(named))


@pytest.mark.compiled
def test_every_declared_module_is_compiled_and_no_other() -> None:
    def is_compiled(module: str) -> bool:
        return str(import_module(module).__file__).endswith(tuple(EXTENSION_SUFFIXES))

    assert [] == [module for module in COMPILED if not is_compiled(module)]
    left_out = (module for modules in INTERPRETED.values() for module in modules)
    assert [] == [module for module in left_out if is_compiled(module)]
