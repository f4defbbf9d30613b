"""`make bench-aiperf`: NVIDIA's AIPerf drives the gateway, as a client that we did not write.

It is no yardstick for the gateway, whose answers cost a fraction of what AIPerf does with them: it
shows that a strict client finds no fault with chat completions and completions, plain and streamed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bench.gateway_ground import KEY, GroundError, ground
from headgate_cluster.binaries import pip_folder
from headgate_cluster.files import TREE

PINS: Final = TREE / "requirements" / "aiperf.txt"
REQUESTS: Final = 200
AIPERF: Final = "from aiperf.cli import app; app()"
TOKENIZER: Final = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
words = {word: number for number, word in enumerate([*letters, "<s>", "</s>"])}
bytewise = Tokenizer(models.BPE(vocab=words, merges=[]))
bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bytewise.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token="<s>", eos_token="</s>")
fast.save_pretrained(sys.argv[1])
"""
"""AIPerf wants a tokenizer, and would fetch one: this one takes each byte for a token."""
SHOWN: Final = {
    "request_throughput": "requests/s",
    "time_to_first_token": "first token, ms",
    "request_latency": "whole answer, ms",
}


def python(folder: Path, code: str, *arguments: object) -> None:
    """Run code among AIPerf's packages."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise GroundError(f"AIPerf failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")


def measured(results: Path) -> dict[str, Any]:
    [file] = results.rglob("profile_export_aiperf.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main() -> None:
    folder = pip_folder("aiperf", PINS)
    with ground() as stands:
        host, port = stands.gateway.at["fast"]
        tokenizer = stands.folder / "tokenizer"
        python(folder, TOKENIZER, tokenizer)
        for endpoint in ("chat", "completions"):
            for streaming in ((), ("--streaming",)):
                results = stands.folder / f"{endpoint}{len(streaming)}"
                python(
                    folder,
                    AIPERF,
                    *("profile", "-m", "llmapi-fast", "--endpoint-type", endpoint, *streaming),
                    *("--url", f"http://{host}:{port}", "--api-key", KEY),
                    *("--tokenizer", tokenizer, "--isl", 50, "--ui", "none"),
                    *("--request-count", REQUESTS, "--concurrency", 8),
                    *("--artifact-dir", results),
                )
                found = measured(results)
                errors = found.get("error_summary") or []
                shown = [
                    f"{label} {found[name]['avg']:.1f}"
                    for name, label in SHOWN.items()
                    if found.get(name)
                ]
                kind = "streamed" if streaming else "plain"
                print(f"{endpoint}, {kind}: {len(errors)} kinds of error; {', '.join(shown)}")
                if errors or found["request_count"]["avg"] != REQUESTS:
                    raise GroundError(f"AIPerf found fault: {errors}")


if __name__ == "__main__":
    main()
