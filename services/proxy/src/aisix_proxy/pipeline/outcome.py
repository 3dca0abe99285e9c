"""What an attempt's end says of its deployment: the counters of attempts, and the health of the model.

Written once for each attempt: by `call_upstream` where it failed or its answer is whole, by `deliver` at the end of a
stream. An attempt whose caller left is neither: nobody knows how it would have ended.
"""

from ..canonical.errors import GatewayError, UpstreamError
from ..compiled_model import CompiledModel
from .services import Services


def succeeded(services: Services, model: CompiledModel) -> None:
    """The whole answer came."""
    model.deployment(services.metrics).succeeded.add(1)
    services.health.succeeded(model.name)


def failed(services: Services, model: CompiledModel, error: GatewayError) -> None:
    """It ended with `error`, which counts against the provider's health where it is the provider's."""
    model.deployment(services.metrics).failed.add(1)
    if isinstance(error, UpstreamError):
        services.health.failed(model.name, error)
