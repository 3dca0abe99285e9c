"""The table of documents (tests/common/resources/cases) through the ways in from outside: one verdict each.

The strict check and the file loader have the table in their own tests. Here it goes over a socket to the admin, which
must refuse what they refuse, and as rows that others wrote through a real etcd, where the admin that shows them and
the snapshot that proxies serve must read the same ones. References to nothing are no part of the verdict: the table's
documents stand alone.
"""

from typing import Any

import pytest
from msgspec import json

from aisix_common.resources import API_KEYS, KINDS, MODELS, RATE_LIMIT_POLICIES, Kind
from aisix_common.snapshot import build, empty
from aisix_common.store.types import Delete, Listing, Put

from tests.common.resources.cases import Case, load
from tests.common.snapshot.rows import NOON
from tests.support.admin import RunningAdmin
