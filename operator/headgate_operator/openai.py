"""The one-token probe of a model server that speaks OpenAI's API, as trtllm-serve does."""

from typing import Final

import aiohttp
import msgspec

from headgate_api.errors import Unavailable
from headgate_api.labels import HTTP_PORT
from headgate_controllers.contract import Manifest
from headgate_controllers.modeldeployment.servers import SERVERS

QUESTION: Final = {
    "model": SERVERS["trtllm-serve"].served_model,
    "prompt": "Hello",
    "max_tokens": 1,
}
SHOWN: Final = 500
"""Characters of an answer that a condition's message has room for."""


class _Choice(msgspec.Struct):
    text: str


class _Answer(msgspec.Struct):
    choices: list[_Choice]


async def probe(pod: Manifest, *, port: int = HTTP_PORT) -> None:
    """Get one token from the pod.

    Raises:
        Unavailable: there was none; the message is the server's own, where it gave one.
    """
    url = f"http://{pod['status']['podIP']}:{port}/v1/completions"
    try:
        # A session of its own: the pod is asked once in its life.
        async with aiohttp.ClientSession() as session, session.post(url, json=QUESTION) as response:
            status, body = response.status, await response.read()
    except aiohttp.ClientError as error:
        raise Unavailable(f"the model server does not answer: {error}") from error
    if status != 200:
        said = body.decode(errors="replace")[:SHOWN]
        raise Unavailable(f"the model server answered {status}: {said}")
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the model server sent something that is no answer: {error}") from error
    if not answer.choices:
        raise Unavailable("the model server answered without a token")
