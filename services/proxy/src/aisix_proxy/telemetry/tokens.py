"""Counts tokens where a provider reports none (data-plane 7.4). Above the codecs: it knows messages, no wire.

The vocabularies live in the toktok wheel and are loaded on first use, so a process that never counts never pays.
Measured: o200k takes 0.6 s and 63 MB, cl100k 0.25 s and 47 MB, once per process; after that 100 KB of text take 0.5 ms.
Loading and counting release the GIL, so callers on an event loop count in a thread (`asyncio.to_thread`).
"""

import re
from collections.abc import Iterable
from typing import Final

from ..canonical.request import Message

PER_MESSAGE: Final = 3
PER_NAME: Final = 1
REPLY_PRIMING: Final = 3

_O200K: Final = re.compile(r"(?:.*/)?(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|o[1-9](?![0-9a-z]))")


def encoding_for(model_name: str) -> str:
    """The vocabulary of a provider's model: o200k for OpenAI's newer ones, cl100k for all that is not known."""
    return "o200k_base" if _O200K.match(model_name.lower()) else "cl100k_base"


def count_text(text: str, model_name: str) -> int:
    """Tokens of `text`; costs 0.5 ms per 100 KB, and the load of the vocabulary the first time."""
    return _count([text], model_name)[0] if text else 0


def count_prompt(messages: Iterable[Message], model_name: str) -> int:
    """Tokens of a chat prompt: the texts, and the fixed costs of data-plane 7.4."""
    texts: list[str] = []
    fixed = REPLY_PRIMING
    for message in messages:
        fixed += PER_MESSAGE
        texts += (message.role, message.text)
        if message.name:
            fixed += PER_NAME
            texts.append(message.name)
        texts += (_tool_text(call) for call in message.tool_calls)
    return fixed + sum(_count(texts, model_name))


def _tool_text(call: dict[str, object]) -> str:
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    return f"{function.get('name') or ''}{function.get('arguments') or ''}"


def _count(texts: list[str], model_name: str) -> list[int]:
    from toktok import batch_count  # only who counts pays for it

    clean = [text.encode(errors="replace").decode() for text in texts]  # it refuses lone surrogates
    counts: list[int] = batch_count(clean, encoding_for(model_name), threads=1)
    return counts
