"""YAML 1.2, core schema: what operators write means what it looks like.

PyYAML reads YAML 1.1, where `no` is false, `22:00` is 1320, `2024-01-01` is a date and a key given twice silently wins.
Here its parser only makes the tree; this module gives it meaning: maps with text keys (each once), lists, text, and
plain scalars by the core schema's table. Dates stay text, merge keys and foreign tags are refused, nesting and the
expansion of aliases are bounded. Errors say line and rule and never quote the document, which may hold secrets.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from .errors import ConfigurationError, Problem

_FastParser: Final[Any] = getattr(getattr(yaml, "cyaml", None), "CParser", object)
"""`object` where PyYAML was built without libyaml."""

_MOST_DEPTH: Final = 64
_MOST_NODES: Final = 2_000_000

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final[Mapping[str, bool]] = MappingProxyType(
    {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
)
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,4000}")
_OCTAL: Final = re.compile(r"0o[0-7]{1,4000}")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,4000}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"(?P<sign>[-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_QUOTED: Final = re.compile(r" '[^']{2,}'")
"""Names of aliases and tags in PyYAML's texts: an unquoted password may begin with `*` or `!`."""

_READ_DIFFERENTLY: Final = ("\t", "\ufeff", "!")
"""Tabs, byte order marks and tags (an empty scalar with `!`) are where libyaml and PyYAML part ways."""

_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final[Mapping[type, str]] = MappingProxyType(
    {int: "int", float: "float", bool: "bool", type(None): "null", str: "str"}
)
_PLAIN: Final = "plain"


def is_null(text: str) -> bool:
    """Whether a plain scalar of this text means nothing at all."""
    return text in _NULL


def resolve(text: str) -> bool | int | float | str | None:
    """The value of a plain (unquoted) scalar by the core schema."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float("nan") if special["sign"] is None else float(special["sign"] + "inf")
    return text


def load(text: str, plain: Callable[[str], Any] = resolve, most_nodes: int = _MOST_NODES) -> Any:
    """The one document in `text`: dict, list, str, int, float, bool or None; an empty document is None.

    `plain` turns the text of an unquoted, untagged scalar into a value; a caller that knows better what a place should
    hold keeps the text and decides later. `most_nodes` bounds the result, aliases expanded. Raises ConfigurationError
    with the first problem.
    """
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _failure(_QUOTED.sub("", f"{error.problem or error.context}"), mark) from None
    except ReaderError:
        raise _failure("holds a character that YAML does not allow", None) from None
    except RecursionError:
        raise _failure("is nested too deeply", None) from None
    except (yaml.YAMLError, ValueError, OverflowError, IndexError, AttributeError, TypeError):
        # PyYAML lets exceptions of its own internals out on malformed escapes, directives and tags.
        raise _failure("is not valid YAML", None) from None
    return None if node is None else _Builder(plain, most_nodes).build(node, 0)


def _composed(text: str) -> yaml.Node | None:
    """The node tree of the one document. libyaml is several times as fast and takes over what it can read; whatever it
    stumbles over is read once more in Python, which has the words for it."""
    if _FastParser is not object and not any(mark in text for mark in _READ_DIFFERENTLY):
        try:
            return _FastReader(text).get_single_node()
        except (yaml.YAMLError, RecursionError, ValueError, OverflowError, IndexError, AttributeError, TypeError):
            pass
    return _Reader(text).get_single_node()


class _Reader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to the node tree, without its YAML 1.1 guesses: a plain scalar without a tag stays `_PLAIN`."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TAG + "str"
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


class _FastReader(Composer, _FastParser, BaseResolver):  # type: ignore[misc]
    """The same with libyaml's parser. Only its events are used: its own composer recurses in C, where a document nested
    deeply enough ends the process."""

    def __init__(self, text: str) -> None:
        _FastParser.__init__(self, text)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    resolve = _Reader.resolve


class _Builder:
    """One walk over the node tree."""

    def __init__(self, plain: Callable[[str], Any], most_nodes: int) -> None:
        self._plain = plain
        self._nodes_left = most_nodes

    def build(self, node: yaml.Node, depth: int) -> Any:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise _failure("is too large once its aliases are expanded", node.start_mark)
        if depth > _MOST_DEPTH:
            # An alias inside its own anchor ends here too.
            raise _failure(f"is nested more than {_MOST_DEPTH} deep", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            _expect_tag(node, "seq")
            return [self.build(item, depth + 1) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        _expect_tag(node, "map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            if key in result:
                raise _failure(f"key {key!r} is there twice", key_node.start_mark)
            result[key] = self.build(value_node, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        if not _encodable(text):
            raise _failure("holds half of a surrogate pair", node.start_mark)
        if node.tag == _PLAIN:
            return self._plain(text)
        if node.tag == _TAG + "str":
            return text
        if not node.tag.startswith(_TAG):
            raise _failure("has a tag of its own, which has no meaning here", node.start_mark)
        value = resolve(text)
        if node.tag == _TAG + "float" and type(value) is int:
            return float(value) if abs(value) < 2**53 else value
        if _TAGS.get(type(value)) != node.tag.removeprefix(_TAG):
            raise _failure("does not fit its tag", node.start_mark)
        return value


def _key(node: yaml.Node) -> str:
    """The text of a map's key, which must be text when the core schema reads it."""
    if not isinstance(node, yaml.ScalarNode):
        raise _failure("a key must be text", node.start_mark)
    text = str(node.value)
    if node.tag == _PLAIN and text == "<<":
        raise _failure("merge keys (<<) do not exist in YAML 1.2", node.start_mark)
    quoted = node.tag == _TAG + "str"
    if not quoted and (node.tag != _PLAIN or not isinstance(resolve(text), str)):
        raise _failure("a key must be text; put it into quotes", node.start_mark)
    if not _encodable(text):
        raise _failure("holds half of a surrogate pair", node.start_mark)
    return text


def _expect_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise _failure("has a tag that has no meaning here", node.start_mark)


def _encodable(text: str) -> bool:
    """Whether `text` can be written as UTF-8; escapes can smuggle in halves of surrogate pairs."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failure(reason: str, mark: yaml.Mark | None) -> ConfigurationError:
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
    return ConfigurationError([Problem(where, reason)])
