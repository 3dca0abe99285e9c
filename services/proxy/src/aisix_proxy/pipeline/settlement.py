"""What is written down of an exchange: metrics, the access log line, usage events. Once, and at once, unless tokens
have to be counted first.

    bill      usage events; by `deliver`, before the last byte of an answer goes out: whoever saw a whole answer has its
              events, even if this process is killed right then (design 9)
    settle    everything else, and the events of what never came to a last byte; by `open_account`, after everything
              else was settled, and before an error is shown

A caller without a usable key leaves no line: aisix_auth_decisions_total counts it (data-plane 10.2).
Writes nothing to the caller and raises nothing on purpose.
"""

import time
from typing import Any

from aisix_common.clock import rfc3339
from aisix_common.logs import get_logger

from ..canonical.errors import GatewayError, Unauthenticated
from ..canonical.usage import NO_USAGE, Usage
from ..telemetry.access_log import MESSAGE, tame
from ..telemetry.proxy_metrics import UNKNOWN, ExchangeCells, Subject
from ..telemetry.usage_event import UsageEvent
from .estimate import count_aside, stream_usage
from .exchange import Attempt, Exchange

_log = get_logger(__name__)


async def bill(exchange: Exchange) -> None:
    """Records the usage events, if anybody takes them and it was not done; writes `usage`. Waits where tokens have to
    be counted: an answer whose usage nobody knows yet is not over. Raises nothing but CancelledError.

    A caller that leaves after this has its events all the same, with the status it was about to see.
    """
    if exchange.billed or not _billable(exchange):
        return
    relay = exchange.relay
    if relay is not None:
        exchange.finish_reasons = relay.finish_reasons
        exchange.usage = await stream_usage(exchange) if relay.usage is None else relay.usage
    _bill(exchange, time.monotonic())


def settle(exchange: Exchange) -> None:
    """Writes `usage`. What has to be counted first is counted in a thread, and written down after that."""
    ended = time.monotonic()
    relay = exchange.relay
    if relay is not None and not exchange.billed:
        exchange.finish_reasons = relay.finish_reasons
        if relay.usage is None:
            count_aside(exchange, lambda usage: _write_down(exchange, ended, usage))
            return
        exchange.usage = relay.usage
    _write_down(exchange, ended, exchange.usage)


def _write_down(exchange: Exchange, ended: float, usage: Usage) -> None:
    exchange.usage = usage
    _count(exchange, ended)
    if exchange.services.access_log.enabled and not isinstance(exchange.error, Unauthenticated):
        exchange.services.access_log.write(_line(exchange, ended))
    if _billable(exchange) and not exchange.billed:
        _bill(exchange, ended)


def _billable(exchange: Exchange) -> bool:
    return bool(exchange.services.usage_sinks) and exchange.key is not None and exchange.endpoint.operation is not None


def _bill(exchange: Exchange, ended: float) -> None:
    exchange.billed = True  # first: what fails half way is not begun again
    try:
        _emit(exchange, ended)
    except Exception:  # noqa: BLE001 - a mistake of ours in an event must not cost the answer
        _log.exception("the usage events of an exchange are lost", request_id=exchange.request_id)


def _count(exchange: Exchange, ended: float) -> None:
    metrics, endpoint, key = exchange.services.metrics, exchange.endpoint, exchange.key
    inference = endpoint.operation is not None
    if key is None:
        cells = metrics.anonymous(endpoint.path, endpoint.protocol, exchange.status, inference=inference)
    else:
        stream = exchange.request is not None and exchange.request.stream
        client = exchange.services.client_types.of(exchange.inbound.headers.get("User-Agent", ""))
        model = exchange.model
        what = (endpoint.path, model and model.row, stream, exchange.status, client)
        cells = key.remembered(what)
        if cells is None:
            subject = _subject(exchange, client)
            cells = ExchangeCells(metrics, subject, exchange.status, stream=stream, inference=inference)
            key.remember(what, cells)
    ttft = exchange.first_byte - exchange.started if exchange.first_byte else None
    cells.settle(ended - exchange.started, ttft, exchange.usage)
    if exchange.client_gone:
        subject = _subject(exchange, UNKNOWN)
        metrics.client_cancelled.cell(
            endpoint.path, subject.model, subject.provider_key_id, subject.provider_key_name
        ).add(1)


def _subject(exchange: Exchange, client_type: str) -> Subject:
    endpoint, key, model = exchange.endpoint, exchange.key, exchange.model
    row = key.entry.value if key else None
    key_entry = model.key_entry if model else None
    subject: dict[str, str | None] = {
        "api_key_id": key.id if key else None,
        "team_id": row.team_id if row else None,
        "user_id": row.user_id if row else None,
        "user_name": row.user_name if row else None,
        "client_type": client_type,
    }
    if model is not None:
        subject |= {
            "provider": model.provider,
            "model": model.name,
            "upstream_model": model.upstream_model,
            "provider_key_id": key_entry.id if key_entry else None,
            "provider_key_name": key_entry.value.display_name if key_entry else None,
        }
    return Subject(endpoint.path, endpoint.protocol, **{name: value for name, value in subject.items() if value})


def _line(exchange: Exchange, ended: float) -> dict[str, Any]:
    inbound, model, usage = exchange.inbound, exchange.model, exchange.usage
    line: dict[str, Any] = {
        "event": MESSAGE,
        "method": inbound.method,
        "path": exchange.endpoint.path,
        "status": exchange.status,
        "latency_ms": round((ended - exchange.started) * 1000, 3),
        "request_id": exchange.request_id,
    }
    if inbound.caller_request_id is not None:
        line["caller_request_id"] = inbound.caller_request_id
    if exchange.client_ip:
        line["client_ip"] = exchange.client_ip
    if exchange.key is not None:
        line["api_key_id"] = exchange.key.id
    if model is not None:
        line["provider"] = model.provider
        line["model"] = model.name
    if exchange.attempts:
        line["served_by_model"] = exchange.attempts[-1].model.name
        line["routing_attempt_count"] = len(exchange.attempts)
        line["routing_fallback_count"] = 0
    if exchange.provider_request_id:
        line["provider_request_id"] = tame(exchange.provider_request_id)[:256]
    if usage.total_tokens:
        line["prompt_tokens"] = usage.prompt_tokens
        line["completion_tokens"] = usage.completion_tokens
        line["total_tokens"] = usage.total_tokens
        if usage.estimated:
            line["usage_estimated"] = True
    if exchange.client_gone:
        line["error_kind"] = "client_disconnected"
    elif exchange.error is not None:
        line["error_kind"] = exchange.error.type
        line["error"] = tame(exchange.error.message)
    return line


def _emit(exchange: Exchange, ended: float) -> None:
    """One event for each attempt, the last with the usage; one for an exchange that never came to an attempt (10.3)."""
    attempts: list[Attempt | None] = list(exchange.attempts) or [None]
    last = len(attempts) - 1
    for index, attempt in enumerate(attempts):
        event = _event(exchange, attempt, index, ended, final=index == last)
        for sink in exchange.services.usage_sinks:
            sink.record(event)
        model = exchange.model
        key_entry = model.key_entry if model else None
        exchange.services.metrics.usage_events.cell(
            exchange.endpoint.operation.value if exchange.endpoint.operation else UNKNOWN,
            f"{event.status_code // 100}xx",
            exchange.endpoint.protocol,
            model.name if model else "unresolved",
            key_entry.id if key_entry else UNKNOWN,
            key_entry.value.display_name if key_entry else UNKNOWN,
        ).add(1)


def _event(exchange: Exchange, attempt: Attempt | None, index: int, ended: float, *, final: bool) -> UsageEvent:
    usage = exchange.usage if final else NO_USAGE
    error = exchange.error if final else (attempt.error if attempt else None)
    model = attempt.model if attempt else exchange.model
    tags = model.key_entry.value.telemetry_tags if model and model.key_entry else None
    begun = attempt.started if attempt else exchange.started
    status = exchange.status if final else (attempt.error.status if attempt and attempt.error else 0)
    return UsageEvent(
        request_id=exchange.request_id,
        occurred_at=rfc3339(exchange.services.clock.now()),
        model_id=model.id if model else "",
        api_key_id=exchange.key.id if exchange.key else "",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        upstream_latency_ms=_ms(((ended if final else attempt.ended) or ended) - begun) if attempt else 0,
        status_code=status,
        cost_usd=0.0,
        guardrail_blocked=False,
        attempt_index=index,
        requested_model=_tag(exchange.requested_model),
        cached_prompt_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cache_creation_tokens=usage.cache_creation_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        usage_estimated=usage.estimated,
        upstream_ttft_ms=_ms(exchange.first_byte - begun) if final and exchange.first_byte else 0,
        downstream_latency_ms=_ms(ended - exchange.started),
        provider_request_id=_tag(exchange.provider_request_id) if final else "",
        provider_model_version=_tag(exchange.answer_model) if final else "",
        finish_reason=_tag(exchange.finish_reasons[0]) if final and exchange.finish_reasons else "",
        inbound_protocol=exchange.endpoint.protocol,
        attempt_kind=attempt.kind if attempt else "",
        attempt_model=attempt.model.name if attempt else "",
        error_class=_error_class(error) if error else ("client_disconnected" if exchange.client_gone else ""),
        error_message=tame(error.message) if error else "",
        provider_kind=(tags.kind or "") if tags else "",
        provider_featured=tags.featured if tags else False,
        branded_provider=_tag(tags.branded_provider or "") if tags else "",
        pk_label=_tag(tags.pk_label or "") if tags else "",
        byo_label=_tag(tags.byo_label or "") if tags else "",
        auth_type="api_key",
        client_source_ip=exchange.client_ip,
        client_user_agent=_tag(exchange.inbound.headers.get("User-Agent", "")),
    )


def _error_class(error: GatewayError) -> str:
    return error.error_class or error.type


def _tag(text: str) -> str:
    return tame(text)[:256]


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
