"""The newest requests that have ended: so many, and none that is older than so long."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from headgate_gateway.explain.kept import Record
from headgate_gateway.explain.record import OWN

MOST: Final = 4_000
SECONDS: Final = 900.0


@dataclass(slots=True)
class Ring:
    """Records in the order of their ends. Looking one up takes a while, adding one does not."""

    most: int = MOST
    """Records. 0: nothing is kept."""
    seconds: float = SECONDS
    _records: deque[Record] = field(init=False)

    def __post_init__(self) -> None:
        self._records = deque(maxlen=self.most)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def keep(self, record: Record) -> None:
        self._forget(record.ended)
        self._records.append(record)

    def find(self, request_id: str, now: float) -> Record | None:
        self._forget(now)
        return next((each for each in reversed(self._records) if id_of(each) == request_id), None)

    def _forget(self, now: float) -> None:
        records, before = self._records, now - self.seconds
        while records and records[0].ended < before:
            records.popleft()


def id_of(record: Record) -> str:
    return OWN.decode(record.own).id
