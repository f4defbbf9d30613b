"""What the chart hands to OpenTelemetry."""

from .helm import DEFAULTS, render


def test_opentelemetry_s_own_variables_reach_the_gateway() -> None:
    endpoint = "gateway.openTelemetry.EXPORTER_OTLP_ENDPOINT=http://collector:4318"
    env = {
        item["name"]: item["value"]
        for item in render(DEFAULTS, endpoint).container("gateway")["env"]
    }

    assert "http://collector:4318" == env["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_by_default_there_are_none() -> None:
    assert not [e for e in render().container("gateway")["env"] if e["name"].startswith("OTEL_")]
