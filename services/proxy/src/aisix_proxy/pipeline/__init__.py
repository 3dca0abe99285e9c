"""The pipeline's stages, in order, per kind of endpoint: this is where a request's path is read (style 1).

The order decides which error wins (data-plane 3): who you are, what you ask for, whether you may, then the way to a
provider. What a stage takes it gives back through `exchange.exits`, so nothing here needs a second half.
"""

from typing import Final

from .runner import Stage
from .stages.authenticate import authenticate
from .stages.authorize import authorize
from .stages.call_upstream import call_upstream
from .stages.check_budget import check_budget
from .stages.list_models import list_models
from .stages.open_account import open_account
from .stages.plan_targets import plan_targets
from .stages.read_request import read_request
from .stages.resolve_model import resolve_model

CHAT: Final[tuple[Stage, ...]] = (
    open_account,  # first in, last settled: metrics and the access log see everything; `deliver` bills before that
    authenticate,
    read_request,
    resolve_model,
    authorize,
    check_budget,  # before routing and rate limits: a key without a budget takes no slot of theirs
    plan_targets,
    call_upstream,  # answers; retries until the first byte
)

LIST_MODELS: Final[tuple[Stage, ...]] = (
    open_account,
    authenticate,
    list_models,  # answers
)
