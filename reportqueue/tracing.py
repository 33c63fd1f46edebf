"""One trace for a row, from the request that queued it to its report: W3C trace contexts, and the spans of this side.

Spans need `opentelemetry-api`, and a project that has set up an SDK. Without both, a caller's `traceparent` is still
kept on the row and handed to its run. Spans contain numbers and names, no parameters and no texts of errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

try:
    from opentelemetry import context, trace
except ImportError:
    trace = None  # type: ignore[assignment]

SYSTEM, DESTINATION = "reportqueue", "report-queue"
MAX_LENGTH = 55
_FORM = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
"""Only a later version than 00 may have further parts."""
_given: ContextVar[str | None] = ContextVar("reportqueue_traceparent", default=None)
"""Of the caller of the current request, in the form that `checked` returns."""


class Row(Protocol):
    """What a span says of a row of the queue, and where its context is."""

    pk: Any
    report_id: Any
    traceparent: Any


def checked(header: str | None) -> str | None:
    """A `traceparent` as it is stored, at most `MAX_LENGTH` characters; None for anything that is none."""
    found = _FORM.fullmatch(header) if header and len(header) <= 1_000 else None
    return f"00-{found[1]}-{found[2]}-{int(found[3], 16) & 1:02x}" if found else None


def trace_id(traceparent: str) -> str:
    """The trace of a stored `traceparent`: 32 hexadecimal digits."""
    return traceparent.split("-")[1]


@contextmanager
def of_request(header: str | None) -> Iterator[None]:
    """What is queued meanwhile belongs to the trace of this header, unless the process has a span of its own."""
    token = _given.set(checked(header))
    try:
        yield
    finally:
        _given.reset(token)


@contextmanager
def sending(rows: Sequence[Row]) -> Iterator[None]:
    """Queue rows as a part of the current trace: each gets its context."""
    if not _records():
        parent = _given.get()
        for row in rows:
            row.traceparent = parent
        yield
        return
    with _tracer().start_as_current_span(
        f"send {DESTINATION}",
        context=_parent(),
        kind=trace.SpanKind.PRODUCER,
        attributes=_attributes("send", "send", count=len(rows)),
        record_exception=False,  # its text may quote a key or a parameter
        set_status_on_exception=False,
    ) as span:
        written = _written(span.get_span_context())
        for row in rows:
            row.traceparent = written
        try:
            yield
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR)
            span.set_attribute("error.type", type(error).__qualname__)
            raise
        if len(rows) == 1 and rows[0].pk and span.is_recording():
            span.set_attributes(_of_row(rows[0].pk, rows[0].report_id))


def fired(firings: Iterable[tuple[int, Any]], *, own: bool) -> list[str | None]:
    """The contexts of firings, given by their schedules and instants: `own` ones begin a trace each.

    Other firings, which a person asks for, belong to the trace of the request.
    """
    if not own:
        found = _written(trace.get_current_span(_parent()).get_span_context()) if trace else _given.get()
        return [found for _ in firings]
    if not _records():
        return [None for _ in firings]
    return [_fired(schedule_id, instant) for schedule_id, instant in firings]


def _fired(schedule_id: int, instant: Any) -> str | None:
    attributes = _attributes("send", "send") | {
        "reportqueue.schedule_id": schedule_id,
        "reportqueue.trigger_time": instant.isoformat(),
    }
    span = _tracer().start_span(
        f"send {DESTINATION}", context=context.Context(), kind=trace.SpanKind.PRODUCER, attributes=attributes
    )
    span.end()
    return _written(span.get_span_context())


def requeued(rows: Iterable[Row]) -> None:
    """Show in the trace of each row that it is queued again, with a link to the request that did it."""
    if not _records():
        return
    by = trace.get_current_span(_parent()).get_span_context()
    for row in rows:
        if row.traceparent:
            _tracer().start_span(
                f"requeue {DESTINATION}",
                context=_context_of(row.traceparent),
                kind=trace.SpanKind.PRODUCER,
                links=[trace.Link(by)] if by.is_valid else [],
                attributes=_attributes("requeue", "send") | _of_row(row.pk, row.report_id),
            ).end()


def _records() -> bool:
    """Whether the project has set up an SDK: without it, spans are not worth making."""
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _tracer() -> Any:
    return trace.get_tracer("reportqueue")


def _parent() -> Any:
    """The context of new spans: the process's own, or that of the request's header. None: the current one."""
    given = _given.get()
    if given is None or trace.get_current_span().get_span_context().is_valid:
        return None
    return _context_of(given)


def _context_of(traceparent: str) -> Any:
    _, trace_id, span_id, flags = traceparent.split("-")
    remote = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), context.Context())


def _written(span: Any) -> str | None:
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"


def _attributes(operation: str, kind: str, *, count: int = 1) -> dict[str, Any]:
    """By OpenTelemetry's semantic conventions for messaging."""
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": DESTINATION,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        **({"messaging.batch.message_count": count} if count > 1 else {}),
    }


def _of_row(pk: int, report_id: int) -> dict[str, Any]:
    return {"messaging.message.id": str(pk), "reportqueue.report_id": report_id}
