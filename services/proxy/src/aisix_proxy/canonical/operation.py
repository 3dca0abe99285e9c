"""What a caller can ask for (design 2)."""

from enum import Enum


class Operation(Enum):
    """One kind of work; the value is the word used in logs and metrics."""

    CHAT = "chat"
    EMBED = "embed"
    RERANK = "rerank"
    IMAGE = "image"
    SPEECH = "speech"
    TRANSCRIBE = "transcribe"
