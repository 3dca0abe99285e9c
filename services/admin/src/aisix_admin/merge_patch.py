"""JSON merge patch (RFC 7396). Pure."""

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` after `patch`: null takes a member away, an object is merged, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, item in patch.items():
        if item is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), item)
    return merged
