"""OpenTelemetry's words for generative AI: the one place where they are spelled.

They are still "in development" and move. Two sets are known: that of semantic conventions 1.41,
which dashboards know, and the one that came after the move to a repository of their own. The
environment variable of OpenTelemetry chooses, as it does for any other program. Attributes of spans
are the same in both, as far as we have something to say; what differs is how tokens are counted.

Sources: open-telemetry/semantic-conventions v1.41.0 docs/gen-ai, and
open-telemetry/semantic-conventions-genai docs/gen-ai/{gen-ai-spans,gen-ai-token-metrics}.md.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

PROVIDER: Final = "headgate"
OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""By URL."""

# Attributes of spans
ERROR_TYPE: Final = "error.type"
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

# Metrics, in Prometheus's form. Their labels are attributes, too.
SERVER_REQUEST_DURATION: Final = "gen_ai.server.request.duration"
SERVER_TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"  # noqa: S105 - a name
SERVER_TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"  # noqa: S105
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - of 1.41
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - of 1.41
INFERENCE_USAGE: Final = "gen_ai.client.inference.usage"  # of the latest: one counter per kind
INFERENCE_OPERATION: Final = "gen_ai.client.inference.operation"  # its spread over calls
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - of the latest

Conventions: TypeAlias = Literal["v1.41", "latest"]
OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST: Final = "gen_ai_latest_experimental"


def conventions(environment: Mapping[str, str]) -> Conventions:
    """Return the set that `environment` asks for.

    >>> conventions({}), conventions({OPT_IN: "http, gen_ai_latest_experimental"})
    ('v1.41', 'latest')
    """
    asked = environment.get(OPT_IN, "").split(",")
    return "latest" if LATEST in map(str.strip, asked) else "v1.41"


def prometheus(name: str) -> str:
    """Return a name as Prometheus has it.

    >>> prometheus(SERVER_REQUEST_DURATION)
    'gen_ai_server_request_duration'
    """
    return name.replace(".", "_")
