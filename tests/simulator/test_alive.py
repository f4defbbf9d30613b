"""The liveness probe's verdicts. What a real Triton makes it say is in test_behaviour.py."""

import socket
from collections.abc import Iterator

import pytest

from headgate_controllers.modeldeployment.files.alive import judge, verdict

HANDSHAKES = 16


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=HANDSHAKES) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "line", "alive"),
    [
        (200, 'data: {"text_output":"a"}', True),
        (200, 'data: {"text_output":"{\\"error\\""}', True),
        (200, "", True),
        (200, 'data: {"error":"CUDA error"}', False),
        (400, 'data: {"error":"Stub process \'m_0_0\' is not healthy."}', False),
        (404, '{"error":"Request for unknown model"}', False),
        (500, "", False),
        (429, "", True),
        (503, '{"error":"Exceeds maximum queue size"}', True),
        (400, 'data: {"error":"Maximum queue size reached, dropping request."}', True),
        (400, 'data: {"error":"Request timeout expired"}', True),
    ],
)
def test_an_error_is_death_unless_it_speaks_of_load(status: int, line: str, alive: bool) -> None:
    assert alive == judge(status, line)[0]


def test_silence_is_load(listener: socket.socket) -> None:
    wanted = (True, "alive: no answer within 0.1 s, which is load")
    assert wanted == verdict(listener.getsockname()[1], "m", "triton-llmapi", 0.1)


def test_nobody_there_is_death(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    wanted = (False, "dead: the connection is refused")
    assert wanted == verdict(port, "m", "triton-python", 20)
