"""Does the model in this pod still answer? The liveness probe of model servers.

A server's own health endpoints may stay 200 when the process that holds the model has died, as
Triton's do. So this asks for one token, and calls the server dead on an error answer or a refused
connection only. Slowness is load, not death: a busy pod must never be restarted by its probe.

It runs in the model server's image, where only python3 and its standard library are certain.
"""

import argparse
import http.client
import json
import re
import signal
import sys
from contextlib import closing
from types import FrameType

QUESTIONS = {
    "triton-llmapi": {
        "text_input": "ping",
        "streaming": True,
        "sampling_param_max_tokens": 1,
        "sampling_param_exclude_input_from_output": True,
    },
    "triton-python": {"text_input": "ping", "stream": True, "max_tokens": 1},
    "trtllm-serve": {"prompt": "ping", "max_tokens": 1},
}
BUSY_STATUS = (408, 429, 503, 504)
BUSY_TEXT = re.compile("queue size|timeout expired", re.IGNORECASE)  # Triton says these with 400


class OutOfTimeError(Exception):
    """The time for the question is over."""


def ask(port: int, model: str, runtime: str) -> tuple[int, str]:
    """Ask for one token and return the status and the first line of the answer."""
    # A stream of Triton, because it notices only of streams that the client left.
    path, body = f"/v2/models/{model}/generate_stream", QUESTIONS[runtime]
    if runtime == "trtllm-serve":
        path, body = "/v1/completions", {"model": model, **body}
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.readline(65536).decode(errors="replace").strip()


def judge(status: int, line: str) -> tuple[bool, str]:
    """Say whether this answer comes from a living model, and why."""
    if status in BUSY_STATUS or BUSY_TEXT.search(line):
        return True, f"alive: refused for load ({status})"
    if status != http.client.OK or line.removeprefix("data:").lstrip().startswith('{"error"'):
        return False, f"dead: answered {status}: {line[:500]}"
    return True, "alive: answered"


def verdict(port: int, model: str, runtime: str, seconds: float) -> tuple[bool, str]:
    """Ask and judge, in `seconds` at most."""

    def out_of_time(_signal: int, _frame: FrameType | None) -> None:
        raise OutOfTimeError

    # One timer over all of connecting, sending and reading: a socket's timeout bounds each alone.
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return judge(*ask(port, model, runtime))
    except OutOfTimeError:
        return True, f"alive: no answer within {seconds:g} s, which is load"
    except ConnectionRefusedError:
        return False, "dead: the connection is refused"
    except (OSError, http.client.HTTPException) as error:
        return True, f"alive, as far as one can tell: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> int:
    """Print one sentence; 0 is alive, 1 is dead."""
    parser = argparse.ArgumentParser(description="Ask a model server for one token.")
    parser.add_argument("model", help="the server's name of the model")
    parser.add_argument("runtime", choices=tuple(QUESTIONS))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=4.0, help="for everything together")
    given = parser.parse_args()
    alive, sentence = verdict(given.port, given.model, given.runtime, given.seconds)
    sys.stdout.write(f"{sentence}\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
