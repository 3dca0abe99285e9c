"""Usage where the provider sent none: counted here, and marked as estimated (data-plane 7.4)."""

from collections.abc import Callable

from ..canonical.usage import Usage
from ..telemetry.tokens import count_prompt, count_text
from .exchange import Exchange


def estimated_usage(exchange: Exchange, model_name: str, produced: Callable[[Callable[[str], int]], int]) -> Usage:
    """Count the request's prompt, and what `produced` counts with the tokenizer it is given.

    Takes as long as the texts are (about 12 ms a megabyte), and once some 100 ms to load a vocabulary.
    """
    request = exchange.request
    assert request is not None
    prompt = count_prompt(exchange.endpoint.dialect.messages(request), model_name)
    completion = produced(lambda text: count_text(text, model_name))
    return Usage(prompt, completion, prompt + completion, estimated=True)
