"""Calls that leave the gateway: which addresses may be connected to, and HTTP sessions that hold to it.

`addresses` the rules, pure; `guard` a rule with its exceptions; `session` aiohttp sessions under a guard.
"""

from .guard import AddressRefused, Guard
from .session import AnswerTooLarge, open_session

__all__ = ["AddressRefused", "AnswerTooLarge", "Guard", "open_session"]
