"""`POST /v1/chat/completions` (data-plane 1.3)."""

from typing import Final

from ..canonical.operation import Operation
from ..dialects import DIALECT
from ..pipeline import CHAT
from ..pipeline.endpoint import Endpoint

CHAT_COMPLETIONS: Final = Endpoint(
    "POST", "/v1/chat/completions", CHAT, DIALECT["openai-chat"], operation=Operation.CHAT
)
