"""Compile the gateway's data path into its wheel with mypyc; see docs/design/0009-compiled.md.

Off unless `HATCH_BUILD_HOOKS_ENABLE=1`, so that a checkout installed for development runs the
sources as they are. What is compiled stands in pyproject.toml. The sources stay in the wheel:
tracebacks show their lines.

`HEADGATE_COMPILED` may name a folder. What was compiled is kept there, and taken from there if
it exists: whoever sets it answers for its being of the same sources.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ERRORS: Final = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
__attribute__((cold)) void CPy_AddTraceback(const char *, const char *, int, PyObject *);
__attribute__((cold)) void CPy_AttributeError(
    const char *, const char *, const char *, const char *, int, PyObject *);
__attribute__((cold)) void CPy_TypeError(const char *, PyObject *);
__attribute__((cold)) void CPy_TypeErrorTraceback(
    const char *, const char *, int, PyObject *, const char *, PyObject *);
"""
"""What each line of compiled Python calls if it fails. Told so, the compiler puts a fifth of all
code aside, where no request passes: it takes neither memory nor room in the processor's caches."""
OPTIONS: Final = ("-fvisibility=hidden", "-fno-semantic-interposition")
"""Nobody replaces our functions from outside: they call each other directly."""


class CompiledWheel(BuildHookInterface[Any]):
    """Adds a shared library with all compiled modules, and a stub for each, to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is written. Nothing is written into the tree."""
        self._scratch = tempfile.TemporaryDirectory(prefix="headgate-compiled-")
        if version == "editable":
            return
        root, scratch = Path(self.root), Path(self._scratch.name)
        built = Path(os.environ.get("HEADGATE_COMPILED", scratch / "kept"))
        if not built.exists():
            with contextlib.chdir(root):  # where mypy finds its settings
                compile_into(scratch / "built", compiled(root, **self.config), scratch)
            shutil.move(scratch / "built", built)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(
            {str(file): str(file.relative_to(built)) for file in sorted(built.rglob("*.so"))}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._scratch.cleanup()


def compiled(
    root: Path, *, packages: Sequence[str], interpreted: Mapping[str, Iterable[str]], **_: object
) -> dict[str, Path]:
    """Return the modules that are compiled: all of `packages` but what `interpreted` names.

    A name stands for a module, or for a package with all that is in it.
    """
    left_out = tuple(f"{name}." for names in interpreted.values() for name in names)
    modules = {}
    for package in packages:
        top = root / package
        for path in sorted(top.rglob("*.py")):
            name = ".".join(path.relative_to(top.parent).with_suffix("").parts)
            if path.stem != "__init__" and not f"{name}.".startswith(left_out):
                modules[name] = path.relative_to(root)
    return modules


def compile_into(built: Path, modules: Mapping[str, Path], scratch: Path) -> None:
    """Compile modules into one shared library: it takes less memory than many small ones."""
    # Late: whoever asks only for what is compiled needs no compiler.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    # `make lint` judges types. Here some libraries' types are missing, which is no fault.
    lenient = ("--ignore-missing-imports", "--no-warn-unused-ignores")
    extensions = mypycify(
        [*lenient, *map(str, modules.values())],
        group_name="headgate",
        opt_level="2",
        debug_level="0",
        target_dir=str(scratch / "c"),
    )
    (errors := scratch / "errors.h").write_text(ERRORS)
    for extension in extensions:
        extension.extra_compile_args += [*OPTIONS, "-include", str(errors)]
    command = build_ext(Distribution({"name": "headgate", "ext_modules": extensions}))
    command.build_lib = str(built)
    command.build_temp = str(scratch)
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
