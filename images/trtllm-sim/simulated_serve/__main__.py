"""The command `trtllm-serve`, as far as pods use it."""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from simulated_llm.settings import model
from simulated_serve.metrics import Metrics
from simulated_serve.server import CHECKED_EVERY, KEEP_ALIVE, Server

LONGEST_DRAIN: Final = 24 * 3600.0
"""Seconds: the server itself waits for open streams for ever."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trtllm-serve", description="Serve a simulated LLM.", allow_abbrev=False
    )
    parser.add_argument("model", help="checkpoint; nothing of it is read")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--backend", default="pytorch", choices=("pytorch", "_autodeploy"))
    parser.add_argument("--config", "--extra_llm_api_options", dest="options", type=Path)
    parser.add_argument("--max_batch_size", type=int)
    parser.add_argument("--tensor_parallel_size", "--tp_size", type=int, default=1)
    parser.add_argument("--pipeline_parallel_size", "--pp_size", type=int, default=1)
    parser.add_argument("--revision")
    parser.add_argument("--tool_parser")
    parser.add_argument("--reasoning_parser")
    return parser


def served(given: argparse.Namespace, environment: Mapping[str, str]) -> Server:
    """Load the model that the command line speaks of.

    Raises:
        ValueError: an option makes no sense.
    """
    said = {} if given.options is None else yaml.safe_load(given.options.read_text())
    engine: dict[str, Any] = {"max_batch_size": given.max_batch_size, **(said or {})}
    simulation = {"cancellation_check_ms": CHECKED_EVERY, **(engine.get("simulation") or {})}
    made = model(engine | {"simulation": simulation}, environment)
    time.sleep(made.settings.load_s)
    if made.settings.fail_load:
        raise ValueError(made.settings.fail_load)
    folder = Path(given.model)
    return Server(
        name=folder.name if folder.is_dir() else given.model,
        model=made,
        metrics=Metrics(made.settings, engine),
        tools=given.tool_parser is not None,
        reasoning=given.reasoning_parser is not None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    try:
        server = served(given, os.environ)
    except ValueError as error:
        raise SystemExit(f"trtllm-serve: {error}") from error
    web.run_app(
        server.app(),
        host=given.host,
        port=given.port,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=LONGEST_DRAIN,
    )


if __name__ == "__main__":
    main()
