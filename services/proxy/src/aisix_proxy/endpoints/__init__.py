"""The registry of public endpoints of the proxy's listener. Adding one is a module, and a line here."""

from typing import Final

from ..pipeline.endpoint import Endpoint
from .chat_completions import CHAT_COMPLETIONS
from .models import MODELS
from .probes import LIVEZ, READYZ

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    LIVEZ,
    READYZ,
    MODELS,
    CHAT_COMPLETIONS,
)
