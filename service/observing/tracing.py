"""OpenTelemetry traces: one span a request, one a stage of it. Needs the extra ``traces``.

Attributes are route templates, slugs, numbers: nothing that may be about a patient. Everything else, such as where
spans are sent and how many, is chosen by the standard's own variables (OTEL_*), which the SDK reads.
"""

import os
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from time import time_ns
from typing import TYPE_CHECKING, Final, Literal

from model.errors import AltaError

if TYPE_CHECKING:  # an extra
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

__all__ = ["Traces", "Tracing", "require_tracing"]

Traces = Literal["auto", "on", "off"]

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NANOSECONDS: Final = 1_000_000_000


def require_tracing(chosen: Traces) -> bool:
    """Whether traces are wanted; ``auto``: where the standard's variables name a collector. Raises AltaError."""
    wanted = chosen == "on" or (chosen == "auto" and any(os.environ.get(name) for name in ENDPOINTS))
    if wanted and (find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None):
        raise AltaError(
            "Traces are asked for (ALTA_TRACES, OTEL_EXPORTER_OTLP_ENDPOINT), and OpenTelemetry is not installed:"
            " pip install 'alta-retrieval[traces]', or set ALTA_TRACES=off."
        )
    return wanted


class Tracing:
    """Thread-safe. processor: where spans go; by default the collector that the standard's variables name."""

    def __init__(self, processor: "SpanProcessor | None" = None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME") or "alta"
        resource = Resource.create({"service.name": name, "service.version": version("alta-retrieval")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("alta")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[str, str]) -> "Span":
        """The span of a request; of the caller's trace where its ``traceparent`` names one (W3C Trace Context)."""
        from opentelemetry.trace import SpanKind

        parent = self._propagator.extract(headers)
        return self._tracer.start_span("request", context=parent, kind=SpanKind.SERVER)

    def stage(self, request: "Span", name: str, seconds: float, ended_ago: float = 0.0) -> None:
        """A stage of a request that has ended."""
        from opentelemetry.trace import set_span_in_context

        ended = time_ns() - int(ended_ago * NANOSECONDS)
        began = ended - int(seconds * NANOSECONDS)
        span = self._tracer.start_span(name, context=set_span_in_context(request), start_time=began)
        span.end(ended)

    def end(self, request: "Span", method: str, route: str, status: int, problem: str | None) -> None:
        """Names are those of the semantic conventions for HTTP; error.type is the problem's slug."""
        from opentelemetry.trace import Status, StatusCode

        request.update_name(f"{method} {route}")
        request.set_attributes({"http.request.method": method, "http.route": route})
        if status:
            request.set_attribute("http.response.status_code", status)
        if problem:
            request.set_attribute("error.type", problem)
        if status >= 500 or not status:
            request.set_status(Status(StatusCode.ERROR))
        request.end()

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()
