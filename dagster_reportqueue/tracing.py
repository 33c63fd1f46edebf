"""Spans of the Dagster side, in the traces of the rows: received by a sensor, processed by a run.

Spans need `opentelemetry-api`, and a code location that has set up an SDK. Without both, a row's trace context is
handed on as it is. Spans contain numbers and names, no parameters and no texts of errors.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, Protocol

try:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    trace = None  # type: ignore[assignment]

SYSTEM, DESTINATION = "reportqueue", "report-queue"
HEADER = "traceparent"
VARIABLE = "REPORT_TRACES_SETUP"
"""Names a function, such as `traced:set_up`, that sets up the SDK. It is called in each process that makes spans: an
SDK starts threads, and the warm launcher forks no process that has some."""
MAX_LINKS = 128
"""Links of a run's span to the rows that it makes. An SDK keeps so many by default; each row has a span of its own."""
FLUSH_SECONDS = 3.0
"""How long the end of a run waits until its spans are exported: a collector that is away must not hold up runs."""


logger = logging.getLogger("dagster.reportqueue_tracing")
_is_set_up = False


class Row(Protocol):
    """What a span says of a row."""

    @property
    def queue_id(self) -> int:
        """Its id."""

    @property
    def report_id(self) -> int:
        """Its report."""

    @property
    def modifier_id(self) -> int:
        """Its modifier."""

    @property
    def generation(self) -> int:
        """The number of its claim."""

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to."""


def headers() -> dict[str, str]:
    """The header with which a call to the web app joins the current trace; none without one."""
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return {}
    return _written(trace.get_current_span())


def received(items: Iterable[Row], *, consumer: str, claim_id: object) -> dict[int, str]:
    """Show in each row's trace that a sensor has claimed it; the context for its run, by the ids of the rows."""
    rows = list(items)
    if not _records():
        return {row.queue_id: row.traceparent for row in rows if row.traceparent}
    found = {}
    for row in rows:
        attributes = _attributes("receive", "receive", row) | {
            "messaging.consumer.group.name": consumer,
            "reportqueue.claim_id": str(claim_id),
            **({"messaging.batch.message_count": len(rows)} if len(rows) > 1 else {}),
        }
        span = _tracer().start_span(
            f"receive {DESTINATION}", _context_of(row.traceparent), trace.SpanKind.CLIENT, attributes
        )
        span.end()
        if HEADER in (written := _written(span)):
            found[row.queue_id] = written[HEADER]
    return found


@contextmanager
def processing(row: Row, *, run_id: str, parent: str | None = None) -> Iterator[None]:
    """The span in which a run makes a report; its parent is `parent`, or else the row's own context.

    In a run of several rows, it is linked to the span of the run.
    """
    if trace is None:
        yield
        return
    _set_up()
    run = trace.get_current_span().get_span_context()
    with _span(
        f"process {DESTINATION}",
        _context_of(parent or row.traceparent),
        _attributes("process", "process", row) | {"reportqueue.run_id": run_id},
        links=[trace.Link(run)] if run.is_valid else [],
    ):
        yield


@contextmanager
def batch(rows: int, *, run_id: str) -> Iterator[None]:
    """The span of a run of several rows: it is in no row's trace, and linked to theirs by `join`."""
    if trace is None:
        yield
        return
    _set_up()
    attributes = _attributes("process", "process") | {
        "messaging.batch.message_count": rows,
        "reportqueue.run_id": run_id,
    }
    with _span(f"process {DESTINATION} batch", context.Context(), attributes):
        yield


def join(rows: Iterable[Row]) -> None:
    """Link the span of the run to these rows' traces."""
    if not _records():
        return
    span = trace.get_current_span()
    for row in rows:
        if row.traceparent and len(getattr(span, "links", ())) < MAX_LINKS:
            row_span = trace.get_current_span(_context_of(row.traceparent)).get_span_context()
            if row_span.is_valid:
                span.add_link(row_span, {"messaging.message.id": str(row.queue_id)})


@contextmanager
def flushed() -> Iterator[None]:
    """Export the spans at the end, also after an error."""
    try:
        yield
    finally:
        flush()


def flush() -> None:
    """Export the spans of this process, which may be about to end; at most for `FLUSH_SECONDS`."""
    if not _records() or not hasattr(provider := trace.get_tracer_provider(), "force_flush"):
        return
    # In a thread: some exporters try for longer than they are asked to.
    thread = threading.Thread(
        target=provider.force_flush, args=(int(FLUSH_SECONDS * 1_000),), name="reportqueue-traces", daemon=True
    )
    thread.start()
    thread.join(FLUSH_SECONDS)


def _set_up() -> None:
    """Let the code location set up its SDK, once in each process; an error costs its traces, and no report."""
    global _is_set_up
    if _is_set_up or trace is None:
        return
    _is_set_up = True
    if name := os.environ.get(VARIABLE):
        try:
            resolve_name(name)()
        except Exception:
            logger.exception("No spans are made: the function %s, which %s names, failed.", name, VARIABLE)


def _forked() -> None:
    global _is_set_up
    _is_set_up = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _records() -> bool:
    """Whether the code location has set up an SDK: without it, spans are not worth making."""
    _set_up()
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _tracer() -> Any:
    return trace.get_tracer("dagster_reportqueue")


@contextmanager
def _span(name: str, parent: Any, attributes: Mapping[str, Any], links: list[Any] | None = None) -> Iterator[None]:
    with _tracer().start_as_current_span(
        name,
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", type(error).__qualname__)
            raise


def _context_of(traceparent: str | None) -> Any:
    """The context of a row; one without a trace begins its own."""
    return TraceContextTextMapPropagator().extract({HEADER: traceparent or ""}, context.Context())


def _written(span: Any) -> dict[str, str]:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return {name: value for name, value in carrier.items() if name == HEADER}


def _attributes(operation: str, kind: str, row: Row | None = None) -> dict[str, Any]:
    """By OpenTelemetry's semantic conventions for messaging."""
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": DESTINATION,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        **(
            {}
            if row is None
            else {
                "messaging.message.id": str(row.queue_id),
                "reportqueue.report_id": row.report_id,
                "reportqueue.modifier_id": row.modifier_id,
                "reportqueue.generation": row.generation,
            }
        ),
    }
