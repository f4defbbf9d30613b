"""Which store the settings ask for."""

from typing import assert_never

from headgate_gateway.idempotency.store import Store
from headgate_gateway.settings import Settings


def chosen_store(settings: Settings) -> Store | None:
    """Open the store. None: keys are remembered nowhere, so requests with one are refused."""
    match settings.idempotency_store:
        case "none":
            return None
        case "embedded":
            # Only who uses a store pays for its library: 2 MB, and 8 MB below.
            from headgate_gateway.idempotency.sqlite import SqliteStore  # noqa: PLC0415

            path = settings.idempotency_dir / "keys.db"
            return SqliteStore(path, most_bytes=settings.idempotency_file_bytes)
        case "valkey":
            from headgate_gateway.idempotency.valkey import ValkeyStore  # noqa: PLC0415

            return ValkeyStore(settings.idempotency_url.text)
        case _:
            assert_never(settings.idempotency_store)
