"""`GET /v1/models` (data-plane 1.2)."""

from typing import Final

from ..dialects import DIALECT
from ..pipeline import LIST_MODELS
from ..pipeline.endpoint import Endpoint

MODELS: Final = Endpoint("GET", "/v1/models", LIST_MODELS, DIALECT["openai-chat"])
