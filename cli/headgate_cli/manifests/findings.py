"""What is wrong, and where it stands."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Steps from the top of an object to a field: ("spec", "variants", 0, "gpu")."""

_SENTENCE: Final = re.compile(r"((?:spec|metadata)(?:\.\w+|\[[^\]]*\])*): (.*)", re.DOTALL)

_NEXT: Final = re.compile(r"; (?=(?:spec|metadata)[.\[][^\s:]*: )")


class Fault(NamedTuple):
    """What is wrong with one object. The path is empty where it is the object as a whole."""

    path: Path
    message: str


class Finding(NamedTuple):
    """A fault with its place: what a person reads, and a program with `-o json`."""

    file: str
    line: int  # from 1
    kind: str
    name: str  # empty: it has none that could be read
    field: str
    message: str

    def __str__(self) -> str:
        who = "/".join(filter(None, (self.kind, self.name)))
        said = ": ".join(filter(None, (who, self.field, self.message)))
        return f"{self.file}:{self.line}: {said}"


def field_of(path: Path) -> str:
    """Write a path as Kubernetes does.

    >>> field_of(("spec", "variants", 0, "gpu"))
    'spec.variants[0].gpu'
    """
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def faults_in(message: str) -> list[str]:
    """Take apart what a controller says of several faults, each of which names its field.

    >>> faults_in("spec.routes[a].when: there is no x; y is; spec.routes[b].when: there is no z")
    ['spec.routes[a].when: there is no x; y is', 'spec.routes[b].when: there is no z']
    """
    return _NEXT.split(message)


def fault_in(sentence: str) -> tuple[str, str]:
    """Split what a controller says into the field that it blames, if any, and the rest.

    >>> fault_in('spec.variants[fp8].gpu.products: "H900" is unknown')
    ('spec.variants[fp8].gpu.products', '"H900" is unknown')
    >>> fault_in("compiled it is too large")
    ('', 'compiled it is too large')
    """
    match = _SENTENCE.fullmatch(sentence)
    return ("", sentence) if match is None else (match[1], match[2])


def steps_of(field: str) -> Iterable[str]:
    """Take a field apart; what stands in brackets is an index or the name of an item.

    >>> list(steps_of("spec.variants[fp8].gpu"))
    ['spec', 'variants', 'fp8', 'gpu']
    """
    return (step for step in re.split(r"[.\[\]]+", field) if step)
