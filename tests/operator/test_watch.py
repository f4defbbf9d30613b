"""What kopf may say in our log. Everything else of it is shown by whole processes."""

import logging

import pytest

from headgate_operator.watch import listen


def test_a_request_that_kopf_repeats_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    listen()
    kopf = logging.getLogger("kopf._cogs.clients.watching")
    for number in (1, 2, 3):
        kopf.error(f"Request attempt #{number}/1005 failed; will retry: GET https://a -> 403")
    kopf.error("Request attempt #1005/1005 failed; escalating: GET https://a -> 403")
    kopf.info("Handler 'x' succeeded.")

    assert [
        ("WARNING", "Request attempt #1/1005 failed; will retry: GET https://a -> 403"),
        ("ERROR", "Request attempt #1005/1005 failed; escalating: GET https://a -> 403"),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]
