"""Gateways asked for an explanation: one at its admin port, or all of a cluster."""

import asyncio
import os
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from headgate_api.errors import Forbidden, HeadgateError, NotFound, TerminalError
from headgate_api.labels import GATEWAY, GATEWAY_AUDIENCE, GATEWAY_TOKEN, PART
from headgate_kube.client import Client
from headgate_kube.resources import PODS

TOKEN: Final = "HEADGATE_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT: Final = 10.0  # s
PORT: Final = "is it the admin port of a gateway?"
ELSEWHERE: Final = "is not of this gateway"
"""What a gateway says of another one's request."""


def gateway(url: str, request_id: str, *, words: bool) -> str:
    """Ask the gateway with this admin port.

    Raises:
        TerminalError: it does not answer, or does not know the request.
    """
    if not _is_url(url):
        raise TerminalError(f"--gateway {url}: write http://HOST:PORT, of the admin port")
    # One that runs on this machine without a cluster lets every token pass.
    bearer = os.environ.get(TOKEN) or "none"
    headers = {**_accept(words=words), "Authorization": f"Bearer {bearer}"}
    request = Request(url.rstrip("/") + path(request_id), headers=headers)  # noqa: S310 - http
    try:
        # Straight there: it is on this machine, or at the end of a port-forward.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT) as answer:
            if answer.headers.get_content_type() != headers["Accept"]:
                raise TerminalError(f"{url} answers, but not with an explanation; {PORT}")
            said: bytes = answer.read()
    except HTTPError as error:
        with error:
            plain = error.headers.get_content_type() == "text/plain"  # as a gateway gives reasons
            why = error.read(1000).decode(errors="replace").strip() if plain else ""
        hint = f"; its token goes into {TOKEN}" if error.code in (401, 403) else ""
        why = why or f"{error.code} {error.reason}; {PORT}"
        raise TerminalError(f"{url}: {why}{hint}") from error
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise TerminalError(f"{url} gives no answer: {reason}; {PORT}") from error
    return said.decode()


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


async def cluster(namespace: str, account: str, request_id: str, *, words: bool) -> str:
    """Ask all gateways of a namespace, through the API server that the kubeconfig names.

    Raises:
        HeadgateError: none of them knows the request, or they cannot be asked.
    """
    client = await Client.connect(user_agent="headgate-cli")
    try:
        pods, _ = await client.list(PODS, namespace, selector=f"{PART}={GATEWAY}")
        if not pods:
            raise TerminalError(f"namespace {namespace} has no gateways; -n names another one")
        headers = {**_accept(words=words), GATEWAY_TOKEN: await _token(client, namespace, account)}
        asked = (
            client.ask_pod(
                namespace, pod["metadata"]["name"], port(pod), path(request_id), headers=headers
            )
            for pod in pods
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await client.close()
    names = [pod["metadata"]["name"] for pod in pods]
    return chosen(request_id, dict(zip(names, answers, strict=True)))


async def _token(client: Client, namespace: str, account: str) -> str:
    try:
        return await client.token(namespace, account, GATEWAY_AUDIENCE)
    except NotFound as error:
        raise TerminalError(
            f"namespace {namespace} has no ServiceAccount {account} that may read explanations; "
            "the chart installs one, --service-account names another one"
        ) from error


def chosen(request_id: str, answers: Mapping[str, str | BaseException]) -> str:
    """Pick the answer of the gateway that knows the request.

    Args:
        request_id: the request.
        answers: by pod; an error stands for none.

    Raises:
        HeadgateError: no gateway knows it; the message says what each of them said.
    """
    for answer in answers.values():
        if isinstance(answer, str):
            return answer
    failures: dict[str, HeadgateError] = {}
    for name, answer in answers.items():
        if not isinstance(answer, HeadgateError):
            assert isinstance(answer, BaseException)  # noqa: S101 - all strings are returned
            raise answer
        if not isinstance(answer, NotFound):
            failures[name] = answer
        elif ELSEWHERE not in str(answer):
            raise TerminalError(f"{name}: {answer}")  # it is that one's, and gone
    if failures:
        said = "; ".join(f"{name}: {error}" for name, error in failures.items())
        hint = (
            "; docs/explain.md says which rights the service account needs"
            if any(isinstance(error, Forbidden) for error in failures.values())
            else ""
        )
        raise TerminalError(f"not all gateways could be asked: {said}{hint}")
    raise TerminalError(
        f"none of the gateways {', '.join(answers)} has made request {request_id}; one that was "
        "restarted has forgotten its requests"
    )


def port(pod: Mapping[str, Any]) -> int:
    """Find a gateway's admin port."""
    ports = (found for each in pod["spec"]["containers"] for found in each.get("ports", ()))
    return next((found["containerPort"] for found in ports if found.get("name") == "admin"), 9090)


def path(request_id: str) -> str:
    return f"/debug/requests/{quote(request_id, safe='')}"


def _accept(*, words: bool) -> dict[str, str]:
    return {"Accept": "text/plain" if words else "application/json"}
