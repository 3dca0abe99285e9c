"""What a source knows of itself at one moment: plain values for status pages, metrics and receipts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from aisix_common.snapshot import RejectedRow

FailureReason: TypeAlias = Literal["fetch", "parse", "validate"]


@dataclass(frozen=True, slots=True)
class LastReload:
    """The last time the source was looked at. `successful`: nothing was rejected."""

    successful: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last thing that went wrong; stays until the process ends."""

    at: datetime
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class FileView:
    """What is known of a resources file."""

    served_digest: str = ""
    """SHA-256 (hex) of the bytes that are served."""
    source_digest: str = ""
    """The same of the bytes read last, refused or not."""
    failed: bool = False
    """The last reading was refused as a whole."""
    refused: tuple[RejectedRow, ...] = ()
    """What it was refused for, one row for each bad entry."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One moment of a source."""

    at: datetime | None = None
    """The moment."""
    type: Literal["etcd", "file"] = "etcd"
    connected: bool = False
    """etcd answered, and nothing was heard of trouble since. A restored cache alone does not connect."""
    observed_revision: int | None = None
    """The newest revision etcd is known to have."""
    observed_at: datetime | None = None
    applied_revision: int | None = None
    """Everything up to this revision is in the snapshot."""
    restored: bool = False
    """What is served came from the disk cache, and etcd was not reached since."""
    last_reload: LastReload | None = None
    last_failure: LastFailure | None = None
    last_success: datetime | None = None
    """When a reload last rejected nothing."""
    reloads: int = 0
    """Full listings, readings of the file, and failed fetches."""
    failures: Mapping[FailureReason, int] = field(default_factory=dict)
    file: FileView = FileView()
    """Of a source of type `file`."""
