"""How many tokens a request brings."""

from collections.abc import Iterator

from headgate_gateway.edge.asked import Asked
from headgate_gateway.edge.chat_request import ChatRequest, Message
from headgate_policy.tokens import PER_MESSAGE, estimate


def estimate_input(asked: Asked) -> int:
    """Estimate the tokens of all that the model is to read, before any calibration."""
    if isinstance(asked, ChatRequest):
        texts = [text for message in asked.messages for text in read_texts(message)]
        texts += tool_texts(asked)
        return estimate("".join(texts)) + PER_MESSAGE * len(asked.messages)
    return estimate("".join(asked.texts))


def read_texts(message: Message) -> Iterator[str]:
    """Give what the model reads of a message."""
    yield message.text
    if message.name:
        yield message.name
    for call in message.tool_calls or ():
        yield call.function.name
        yield call.function.arguments


def tool_texts(chat: ChatRequest) -> list[str]:
    """Give what the model reads of the tools, if it may see them."""
    if chat.tool_choice == "none":
        return []
    return [text for tool in chat.tools or () for text in tool.function.texts]
