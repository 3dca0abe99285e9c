"""The models this caller may name, in OpenAI's shape (data-plane 1.2)."""

from typing import Any

import msgspec

from ...compiled_model import CompiledModel
from ..exchange import Exchange, Reply

JSON_HEADERS = b"Content-Type: application/json\r\n"


async def list_models(exchange: Exchange) -> None:
    """Writes `answer`: sorted by name, without wildcard rows, filtered by the key's list only."""
    key = exchange.key
    assert key is not None
    created = int(exchange.services.clock.now().timestamp())
    data = [_row(model, created) for model in exchange.compiled.names() if key.allows(model.name)]
    exchange.answer = Reply(200, JSON_HEADERS, msgspec.json.encode({"object": "list", "data": data}))


def _row(model: CompiledModel, created: int) -> dict[str, Any]:
    row = model.entry.value
    owner = row.provider if row.shape == "direct" else "aisix"
    return {"id": model.name, "object": "model", "created": created, "owned_by": owner}
