"""Models in the older dialect: `provider/id` in one field, and the provider's credential inside of the model. Pure.

Behind it are two rows, written together: the model, and a provider key of its own whose id follows from the model's.
A model whose provider key is shared, and one that stands for several models, belong to `/admin/v1`.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aisix_common.errors import Problem
from aisix_common.resources import MODELS, PROVIDER_KEYS, Flaw, Kind, Model, ProviderKey, masked
from aisix_common.resources.scalars import U64, SecretText, Text
from aisix_common.secret import MASK

from ...decisions import Decisions
from ...errors import Invalid, Unknown
from ...index import Place, ResourceIndex
from ...planning import Edit
from ...rows import Reading, Row
from ...schemas import flaws
from .envelope import Collection, Misshapen, Missing, misshapen
from .translation import Asked, OlderLimit, shown_limit, typed, with_limit

_NAMESPACE: Final = uuid.UUID("5f3c2a9e-6f0b-5d43-9c1e-a1515a1d0001")
"""Of the ids of provider keys. Never to change: a PUT finds the provider key of its model by it."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """How a provider of this dialect is reached."""

    adapter: str
    api_base: str | None = None
    """Where the document names none. None: the adapter knows."""
    needs_base: bool = False


VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        "deepseek": Vendor("openai", "https://api.deepseek.com/v1"),
        "gemini": Vendor("openai", "https://generativelanguage.googleapis.com/v1beta/openai"),
        "openai": Vendor("openai"),
        "anthropic": Vendor("anthropic", "https://api.anthropic.com"),
        "mock": Vendor("openai", needs_base=True),
    }
)


class OlderProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The provider account of one model."""

    api_key: SecretText
    api_base: Text | UnsetType = UNSET
    """Absent: the provider's public one."""


class OlderModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A model that callers can name."""

    name: Text
    model: Annotated[str, Meta(pattern=rf"^({'|'.join(VENDORS)})/.+\Z")]
    """The provider, `/`, and what the provider calls the model."""
    provider_config: OlderProviderConfig
    rate_limit: OlderLimit | UnsetType = UNSET
    timeout: U64 | UnsetType = UNSET
    """Milliseconds."""


OLDER_MODELS: Final = Kind("models", OlderModel, name_field=None, nulls=False)
"""For its schema alone: rows are those of MODELS."""

_PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/display_name": "/name",
        "/provider": "/model",
        "/model_name": "/model",
        "/provider_key_id": "/provider_config",
        "/api_key": "/provider_config/api_key",
        "/api_base": "/provider_config/api_base",
    }
)
"""Where a field of ours stands in this dialect."""


class Models:
    """`Translation` of models."""

    collection: Final = Collection("models", "Model", "Model name already exists")
    kind: Final = MODELS

    def targets(self, id: str) -> Sequence[Place]:
        return [(MODELS.name, id), (PROVIDER_KEYS.name, key_id(id))]

    def check(self, sent: Mapping[str, Any], decisions: Decisions) -> None:
        found = flaws(OLDER_MODELS, sent)
        config, model = sent.get("provider_config"), sent.get("model")
        vendor = VENDORS.get(_halves(model)[0]) if isinstance(model, str) else None
        if vendor is not None and vendor.needs_base and isinstance(config, dict) and "api_base" not in config:
            found.append(
                Flaw(("provider_config", "api_base"), "required field is missing: this provider has no default")
            )
        if found:
            raise misshapen(found)

    def edits(self, asked: Asked) -> Sequence[Edit]:
        row, key_row = (asked.view.row(*place) for place in self.targets(asked.id))
        current, own = typed(MODELS, row), key_id(asked.id)
        if current is not None:
            _require_own(current, own)
        problems: list[Problem] = []
        try:
            keys = _key_edits(asked, own, key_row, current)
        except Invalid as error:
            problems += _moved_places(error)
        model = _model_document(asked.sent, current, own)
        try:
            if row is None:
                edit = asked.decisions.create(MODELS, asked.id, model)[0]
            else:
                edit = asked.decisions.replace(MODELS, row, asked.id, model)
        except Invalid as error:
            problems += _moved_places(error)
        if problems:
            raise Misshapen(problems)
        return [edit, *keys]

    def removal(self, asked: Asked) -> Sequence[Edit]:
        row, key_row = (asked.view.row(*place) for place in self.targets(asked.id))
        if row is None:
            raise Unknown
        current, own = typed(MODELS, row), key_id(asked.id)
        if current is not None and current.shape != "direct":
            raise self.unshowable(asked.id)
        edits = [asked.decisions.delete(MODELS, row, asked.id)]
        if key_row is not None and not _others(asked.index, asked.id):
            edits.append(asked.decisions.delete(PROVIDER_KEYS, key_row, own))
        return edits

    def written(self, sent: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
        # The provider key may have been as it was asked to be: then there is no edit of it.
        base = _base(_halves(sent["model"])[0], sent["provider_config"].get("api_base"))
        return shown(edits[0].value, base, has_key=True)

    async def shown(self, rows: Reading, found: Sequence[tuple[Row, Any]]) -> Sequence[tuple[Row, dict[str, Any]]]:
        direct = [(row, value) for row, value in found if value.shape == "direct"]
        ids = list(dict.fromkeys(value.provider_key_id for _, value in direct))
        keys = {row.id: typed(PROVIDER_KEYS, row) for row in await rows.some(PROVIDER_KEYS.name, ids)}
        return [(row, _shown_with(value, keys.get(value.provider_key_id))) for row, value in direct]

    def unshowable(self, id: str) -> Missing:
        return Missing(self.collection, id, " here: it stands for several models; see /admin/v1/models")


def key_id(id: str) -> str:
    """The id of the provider key that belongs to a model of this dialect."""
    return str(uuid.uuid5(_NAMESPACE, id))


def shown(value: Model, base: str | None, *, has_key: bool) -> dict[str, Any]:
    """A direct model as the dialect shows it; `base` is its api_base where that is not the provider's usual one."""
    limit = shown_limit(value.rate_limit)
    config = {"api_key": MASK, **({} if base is None else {"api_base": base})}
    return {
        "name": value.display_name,
        "model": f"{value.provider}/{value.model_name}",
        **({"provider_config": config} if has_key else {}),
        **({"rate_limit": limit} if limit else {}),
        **({} if value.timeout is UNSET else {"timeout": value.timeout}),
    }


def _shown_with(value: Model, key: ProviderKey | None) -> dict[str, Any]:
    base = None if key is None else _base(str(value.provider), key.api_base)
    return shown(value, base, has_key=key is not None)


def _halves(model: str) -> tuple[str, str]:
    provider, _, name = model.partition("/")
    return provider, name


def _base(provider: str, base: str | None) -> str | None:
    """An api_base as it is shown: not, where it is the provider's usual one."""
    vendor = VENDORS.get(provider)
    return None if vendor is not None and vendor.api_base == base else base


def _require_own(current: Model, own: str) -> None:
    """Raise Misshapen for a stored model that this dialect must not write over."""
    if current.shape != "direct":
        reason = "the model with this id stands for several models: change it through /admin/v1/models"
        raise Misshapen([Problem("/model", reason)])
    if current.provider_key_id != own:
        reason = "the model with this id uses a provider key that is not its own: change it through /admin/v1/models"
        raise Misshapen([Problem("/provider_config", reason)])


def _model_document(sent: Mapping[str, Any], current: Model | None, own: str) -> dict[str, Any]:
    document = {} if current is None else masked(MODELS, current)
    document.pop("timeout", None)
    provider, name = _halves(sent["model"])
    document |= {"display_name": sent["name"], "provider": provider, "model_name": name, "provider_key_id": own}
    if "timeout" in sent:
        document["timeout"] = sent["timeout"]
    return with_limit(document, sent)


def _key_edits(asked: Asked, own: str, row: Row | None, model: Model | None) -> Sequence[Edit]:
    """What becomes of the provider key: nothing, where it is already as it is asked to be."""
    current = typed(PROVIDER_KEYS, row)
    former = None if model is None else model.display_name
    name = _key_name(asked.sent["name"], former, current, own, asked.index)
    document = _key_document(asked.sent, current, name)
    if row is None:
        return [asked.decisions.create(PROVIDER_KEYS, own, document)[0]]
    edit = asked.decisions.replace(PROVIDER_KEYS, row, own, document)
    if edit.value == current:
        return []
    if _others(asked.index, asked.id):
        reason = "other models use this provider key, too: change it through /admin/v1/provider_keys"
        raise Invalid.schema([Problem("/provider_key_id", reason)])
    return [edit]


def _key_document(sent: Mapping[str, Any], current: ProviderKey | None, name: str) -> dict[str, Any]:
    # Masked, not in clear: other secrets of the row must not follow the key to another place.
    document = {} if current is None else masked(PROVIDER_KEYS, current)
    document.pop("api_base", None)
    provider, config = _halves(sent["model"])[0], sent["provider_config"]
    if current is None or current.provider != provider or current.adapter is None:
        document["adapter"] = VENDORS[provider].adapter
    base = config.get("api_base", VENDORS[provider].api_base)
    if base is not None:
        document["api_base"] = base
    return {**document, "display_name": name, "provider": provider, "api_key": config["api_key"]}


def _key_name(name: str, former: str | None, current: ProviderKey | None, own: str, index: ResourceIndex) -> str:
    """What the provider key is called: after its model, unless somebody gave it another name."""
    renamed = former not in (None, name)
    if current is not None and not (renamed and current.display_name in _own_names(str(former), own)):
        return current.display_name
    plain, unique = _own_names(name, own)
    return unique if index.holders(PROVIDER_KEYS.name, plain) - {own} else plain


def _own_names(name: str, own: str) -> tuple[str, str]:
    return f"model/{name}", f"model/{name} ({own})"


def _others(index: ResourceIndex, id: str) -> bool:
    """Whether other rows use the provider key of this model."""
    return bool(index.users((PROVIDER_KEYS.name, "id", key_id(id))) - {(MODELS.name, id)})


def _moved_places(error: Invalid) -> list[Problem]:
    """The problems of a row's document at their places in this dialect."""
    return [_moved_place(problem) for problem in error.problems]


def _moved_place(problem: Problem) -> Problem:
    place = _PLACES.get(problem.path)
    if place is not None:
        return Problem(place, problem.reason)
    if problem.path.startswith("/request/"):
        return Problem("/provider_config", f"`{problem.path}`, known to /admin/v1/provider_keys, {problem.reason}")
    return problem
