"""Labels and annotations that the programs agree on. Selectors use these and nothing else."""

from typing import Final

GROUP: Final = "headgate.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
PART: Final = f"{GROUP}/part"
"""`model-server` on pods of models and what belongs to them, `gateway` and `operator` on ours."""
MODEL: Final = f"{GROUP}/model"
"""metadata.name of the ModelDeployment."""
MODEL_UID: Final = f"{GROUP}/model-uid"
"""Its uid: a pod joins a pool only with it."""
VARIANT: Final = f"{GROUP}/variant"
REVISION: Final = f"{GROUP}/revision"
COHORT: Final = f"{GROUP}/cohort"
RUNTIME: Final = f"{GROUP}/runtime"
"""`spec.runtime.type`, on pods of models: it tells what they speak."""
APPLIED: Final = f"{GROUP}/applied"
"""Annotation: digest of the manifest that we applied last; equal ones are not written again."""
GENERATION: Final = f"{GROUP}/generation"
"""Annotation of a ControllerRevision: the ModelDeployment's generation that was accepted last with
this spec, for those who read metadata alone."""

MODEL_SERVER: Final = "model-server"
GATEWAY: Final = "gateway"
OPERATOR: Final = "operator"

GATEWAY_AUDIENCE: Final = f"{GROUP}/gateway"
"""Whom tokens for the gateways' admin port are made out to. The API server takes none of them, so
whoever gets hold of one can read reports, and nothing else."""
GATEWAY_TOKEN: Final = "x-headgate-token"  # noqa: S105 - the name of a header
"""Header for such a token where the API server's proxy stands between: it passes on no
`authorization`."""

HTTP_PORT: Final = 8000
GRPC_PORT: Final = 8001
METRICS_PORT: Final = 8002
"""Triton's three ports. trtllm-serve has the first one alone."""
