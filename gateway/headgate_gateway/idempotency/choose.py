"""Which store the settings ask for."""

from typing import assert_never

from headgate_gateway.idempotency.sqlite import SqliteStore
from headgate_gateway.idempotency.store import Store
from headgate_gateway.settings import Settings


def chosen_store(settings: Settings) -> Store | None:
    """Open the store. None: keys are remembered nowhere, so requests with one are refused."""
    match settings.idempotency_store:
        case "none":
            return None
        case "embedded":
            path = settings.idempotency_dir / "keys.db"
            return SqliteStore(path, most_bytes=settings.idempotency_file_bytes)
        case "valkey":
            # Only who has such a server pays for its client: 8 MB.
            from headgate_gateway.idempotency.valkey import ValkeyStore  # noqa: PLC0415

            return ValkeyStore(settings.idempotency_url.get_secret_value())
        case _:
            assert_never(settings.idempotency_store)
