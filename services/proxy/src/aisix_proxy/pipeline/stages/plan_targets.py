"""Where the request may go. Only direct models are served yet: the one row is the one target."""

from ..exchange import Exchange


async def plan_targets(exchange: Exchange) -> None:
    """Writes `targets`, in the order they are to be tried. Raises the model's own problem when it has one."""
    model = exchange.model
    assert model is not None
    if model.problem is not None:
        raise model.problem.error()
    exchange.targets = (model,)
