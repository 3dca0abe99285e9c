"""What can go wrong with an exchange. Blame is in the class; only `endpoints/_edge.py` turns one into HTTP.

    GatewayError
      CallerError            the caller can fix it: 4xx
        BadRequest 400 · Unauthenticated 401 · Forbidden 403 · ModelNotFound 404 · TooLarge 413 · BudgetExceeded 429
      UpstreamError          the provider, or the way to it
        UpstreamStatus       it answered with an error status
        UpstreamTimeout      a deadline of ours passed: 504
        UpstreamUnreachable  connect, TLS or transport failed: 502
        UpstreamProtocol     it answered something that cannot be read: 502
        UpstreamAborted      its stream ended in the middle: 502
        UpstreamInBand       an error object inside a stream that began with 200
      Misconfigured          the operator's resources do not fit together
      NotReady               no configuration yet: 503
      InternalError          a bug of ours: 500, no detail to the caller

`status`, `type` and `code` are those of contract/data-plane.md 2.3 and 2.5 for the OpenAI envelope; other dialects map
from `status`. Messages reach callers, so they never hold a credential, an address with one, or another caller's data.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

NO_EXTRAS: Final[Mapping[str, str | int]] = MappingProxyType({})


class GatewayError(Exception):
    """Root. `message` is written for the caller."""

    status: int = 500
    type: str = "internal_error"
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    """Seconds for a Retry-After header, where one is due."""
    extras: Mapping[str, str | int] = NO_EXTRAS
    """Further members of `error` in the OpenAI envelope; other envelopes do not have them."""

    error_class: ClassVar[str] = ""
    """The `error_class` of a usage event (data-plane 10.3), where it differs from `type`."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class CallerError(GatewayError):
    """The caller can fix it."""

    status = 400
    type = "invalid_request_error"


class BadRequest(CallerError):
    """400: the body or a header breaks a rule. `param` names the offending path where there is one."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Unauthenticated(CallerError):
    """401: no usable key. The texts are the customer's (customer-documents, S3)."""

    status = 401
    type = "invalid_api_key"
    code = "invalid_api_key"

    def __init__(self, message: str, *, code: str = "invalid_api_key", reason: str = "invalid_key") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        """The `reason` label of aisix_auth_decisions_total."""


class Forbidden(CallerError):
    """403: the key is good, the thing asked for is not its."""

    status = 403
    type = "permission_denied"

    def __init__(self, message: str, *, type: str = "permission_denied", code: str | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.code = code


class ModelNotFound(CallerError):
    """404: no model of that name."""

    status = 404
    type = "model_not_found"


class TooLarge(CallerError):
    """413: the body is over `proxy.request_body_limit_bytes`."""

    status = 413


class BudgetExceeded(CallerError):
    """429: the key's budget is used up, or nobody knows whether it is (data-plane 7.6). `details` become `extras`."""

    status = 429
    type = "billing_error"
    code = "budget_exceeded"

    def __init__(self, message: str, *, details: Mapping[str, str | int] = NO_EXTRAS, retry_after: int | None = None):
        super().__init__(message)
        self.extras = details
        self.retry_after = retry_after


class Misconfigured(GatewayError):
    """The operator's resources do not fit together; the status says how the contract blames it (400, 401, 500, 503)."""

    type = "config_error"
    error_class = "config"

    def __init__(self, message: str, *, status: int = 500, type: str = "config_error") -> None:
        super().__init__(message)
        self.status = status
        self.type = type


class NotReady(GatewayError):
    """503: no configuration was applied since this process started, so that it cannot tell who calls. SDKs come again;
    after a 401 they would not."""

    status = 503
    type = "service_unavailable"
    retry_after = 1

    def __init__(self) -> None:
        super().__init__("the gateway has just started and has no configuration yet; try again")


class InternalError(GatewayError):
    """A bug of ours. The caller learns the request id, the log the rest."""

    def __init__(self) -> None:
        super().__init__("internal error; the request id finds it in the gateway's log")


class UpstreamError(GatewayError):
    """The provider, or the way to it, failed. `retryable` says whether another try may help (data-plane 6.3)."""

    status = 502
    type = "upstream_error"
    retryable: bool = True


class UpstreamStatus(UpstreamError):
    """The provider answered with an error status: a 4xx keeps it, any other becomes 502 (data-plane 2.5)."""

    error_class = "upstream_status"

    def __init__(
        self,
        upstream_status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status
        self.status = upstream_status if 400 <= upstream_status < 500 else 502
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.retryable = not 400 <= upstream_status < 500


class UpstreamTimeout(UpstreamError):
    """A deadline of ours passed."""

    status = 504
    type = "timeout"
    error_class = "timeout"

    def __init__(self, milliseconds: int) -> None:
        super().__init__(f"upstream request timed out after {milliseconds}ms")


class UpstreamUnreachable(UpstreamError):
    """Connecting, TLS, sending or receiving failed. `detail` names the step and never a URL's query."""

    type = "transport_error"
    error_class = "transport"

    def __init__(self, detail: str) -> None:
        super().__init__(f"transport error: {detail}")


class UpstreamProtocol(UpstreamError):
    """The answer cannot be read as what its wire promises."""

    type = "upstream_decode_error"
    error_class = "upstream_decode"

    def __init__(self, detail: str) -> None:
        super().__init__(f"upstream returned an unparseable body: {detail}")


class UpstreamAborted(UpstreamError):
    """The stream ended in the middle of an answer."""

    type = "stream_aborted"
    error_class = "stream_aborted"

    def __init__(self) -> None:
        super().__init__("upstream ended the stream before the answer was complete")


class UpstreamInBand(UpstreamError):
    """An error object inside a stream: status 502 unless it names a 4xx of its own (data-plane 4.1)."""

    error_class = "upstream_in_band"

    def __init__(self, message: str, *, upstream_status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = upstream_status if upstream_status is not None and 400 <= upstream_status < 500 else 502
        self.code = code
        self.retryable = self.status == 502
