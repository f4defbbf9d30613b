"""Manifests judged in a process of their own.

What it takes to judge them, half a second and 40 MB, is nothing that a gateway's requests should
feel: a thread would share the interpreter with them, and its memory would stay.
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from headgate_api.errors import HeadgateError, TerminalError
from headgate_api.snapshot import Entry
from headgate_cli.manifests.findings import Finding
from headgate_cli.validate import checks


class Judged(msgspec.Struct, frozen=True):
    """What a gateway needs to know of its files."""

    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]
    places: dict[str, tuple[str, int]]
    """File and line of an object, by `place`."""

    def finding(self, entry: Entry, message: str) -> Finding:
        """Blame the object behind an entry."""
        file, line = self.places[place(entry.kind, entry.namespace, entry.name)]
        return Finding(file, line, entry.kind, entry.name, "", message)


def place(kind: str, namespace: str, name: str) -> str:
    return f"{kind}/{namespace}/{name}"


async def judge(paths: Sequence[str], region: str) -> Judged:
    """Judge everything in these files and folders, as the operator of `region` would.

    Raises:
        TerminalError: one of them is not there, or a library is missing.
    """
    command = ("-m", "headgate_cli.manifests.judging", region, *paths)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=pipe, stderr=pipe
    )
    out, said = await process.communicate()
    if process.returncode:
        raise TerminalError(said.decode(errors="replace").strip())
    return msgspec.json.decode(out, type=Judged)


def main(region: str, *paths: str) -> int:
    try:
        checked = checks()(paths, region, datetime.now(UTC))
    except HeadgateError as error:
        print(error, file=sys.stderr)
        return 1
    places = {place(*found.key): (found.file, found.line) for found in checked.objects}
    judged = Judged(checked.entries, checked.findings, places)
    sys.stdout.buffer.write(msgspec.json.encode(judged))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
