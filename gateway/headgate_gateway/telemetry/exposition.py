"""Metrics as Prometheus reads them.

Its text format is a line for each number. The client library that could write it keeps its own
numbers, which we do not, and brings an HTTP server along: 2.6 MiB.
"""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, Literal, TypeAlias, final

from headgate_gateway.telemetry.series import Family, Spread

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
Kind: TypeAlias = Literal["counter", "gauge"]


@final
class Exposition:
    """Written one family after the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def numbers(
        self,
        kind: Kind,
        name: str,
        text: str,
        labels: Sequence[str],
        series: Iterable[tuple[Sequence[str], float]],
    ) -> None:
        """Write a number for each series. `text` and `labels` are ours and need no escaping."""
        self._begin(kind, name, text)
        for values, value in series:
            found = _pairs(labels, values)
            self._add(f"{name}{{{found}}}" if found else name, value)

    def histogram(self, family: Family[Spread]) -> None:
        name = family.name
        self._begin("histogram", name, family.text)
        for values, spread in family.items():
            found = _pairs(family.labels, values)
            more, running = f"{found}," if found else "", 0
            for bound, count in zip((*spread.bounds, inf), spread.counts, strict=True):
                running += count
                at = "+Inf" if bound == inf else str(bound)
                self._add(f'{name}_bucket{{{more}le="{at}"}}', running)
            place = f"{{{found}}}" if found else ""
            self._add(f"{name}_count{place}", running)
            self._add(f"{name}_sum{place}", spread.total)

    def encode(self) -> bytes:
        return "".join(self._lines).encode()

    def _begin(self, kind: str, name: str, text: str) -> None:
        self._lines.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n")

    def _add(self, place: str, value: float) -> None:
        self._lines.append(f"{place} {float(value)!r}\n")


def _pairs(labels: Sequence[str], values: Sequence[str]) -> str:
    r"""Write labels down, in the order of their names.

    >>> _pairs(("tenant", "model"), ("a", 'x"\\y'))
    'model="x\\"\\\\y",tenant="a"'
    """
    return ",".join(
        sorted(f'{name}="{_escaped(value)}"' for name, value in zip(labels, values, strict=True))
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
