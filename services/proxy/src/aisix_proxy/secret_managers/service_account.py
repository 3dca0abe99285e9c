"""What Kubernetes mounts into a pod for its service account. Read anew at each use: tokens rotate."""

import asyncio

from .base import Context, Refused


async def mounted(context: Context, name: str) -> str:
    """The text of `token` or `ca.crt`, without the whitespace around it.

    Raises Refused: a value that was had before is not wrong because the file is away.
    """
    path = context.service_account / name
    try:
        text = await asyncio.to_thread(path.read_text, "ascii")
    except (OSError, ValueError):
        text = ""
    if not text.strip():
        raise Refused(
            f"the pod's service account has no readable {name}: does the proxy run in Kubernetes, "
            "with automountServiceAccountToken on?"
        )
    return text.strip()
