"""The REST side of the Cloud alone, with real TLS and no etcd: it starts in milliseconds."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.identity import DATA_PLANE_URI, ENVIRONMENT_URI, Identity, identify
from aisix_common.clock import SYSTEM_CLOCK
from aisix_common.secret import Secret
from aisix_common.settings.control import Bootstrap, Managed

from tests.cloud_agent.issuing import NOW, Authority, leaf, pem
from tests.support.cloud.endpoints import Endpoints, Troubles, server_context
from tests.support.cloud.enrolment import Enrolment
from tests.support.cloud.front import Front
from tests.support.cloud.issuer import DAY, Issuer, private_pem
from tests.support.cloud.ledger import Ledger
from tests.support.doubles import listening

ENV: Final = "0b8f5a52-7c0d-4a39-9a55-3f4f8f3b7f11"
OTHER_ENV: Final = "7d3c1c7e-5a0e-4b53-8f0a-0d7b7c9a4e22"
DP: Final = "dp-7"
BEAT: Final = json.dumps(
    {
        "dp_id": DP,
        "instance_id": "7f0c9d0e-52a5-4a37-8a1c-7f2b3ad1a111",
        "hostname": "h",
        "uptime_seconds": 1,
        "version": "0",
        "supported_guardrail_kinds": [],
        "applied_revision": 0,
        "exporter_health": [],
    }
).encode()


class RestCloud:
    """What tests ask of it; see `tests.support.cloud` for the parts."""

    def __init__(self, folder: Path, front: Front, issuer: Issuer, dp: Endpoints, enrolment: Enrolment) -> None:
        self.folder = folder
        self.front = front
        self.issuer = issuer
        self.dp = dp
        self.enrolment = enrolment

    @property
    def _authority(self) -> Authority:
        key = load_pem_private_key((self.folder / "authority" / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Authority(x509.load_pem_x509_certificate(self.issuer.ca.encode()), key)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.front.port}"

    @property
    def troubles(self) -> Troubles:
        return self.dp.troubles

    def token(self, env_id: str = ENV) -> str:
        return self.enrolment.token(env_id)

    def issue(
        self,
        env_id: str = ENV,
        dp_id: str = DP,
        *,
        lifetime: dt.timedelta = DAY,
        age: dt.timedelta = dt.timedelta(),
    ) -> Bundle:
        """A bundle, without a token; it began `age` ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        if age:
            begun = (SYSTEM_CLOCK.now() - age - NOW) / DAY
            uris = (ENVIRONMENT_URI + env_id, DATA_PLANE_URI + dp_id)
            certificate = leaf(self._authority, key.public_key(), uris, days=(begun, begun + lifetime / DAY))
            return Bundle(pem(certificate), Secret(private_pem(key)), self.issuer.ca)
        signed, _ = self.issuer.sign(key.public_key(), env_id, dp_id, lifetime)
        return Bundle(signed, Secret(private_pem(key)), self.issuer.ca)

    def managed(self, bootstrap: Bootstrap | None = None, **fields: Any) -> Managed:
        """Settings that lead here. `managed.mtls_dir` and the like lie in the test's folder."""
        kept = {"mtls_dir": str(self.folder / "mtls"), "dp_id_file": str(self.folder / "dp_id")}
        return Managed(enabled=True, cp_base_url=self.url, bootstrap=bootstrap or Bootstrap(), **(kept | fields))

    def calls(self, path: str) -> int:
        """How many there were, answered or not."""
        return sum(count for (called, _), count in self.dp.calls.items() if called == path)


@asynccontextmanager
async def rest_cloud(folder: Path) -> AsyncIterator[RestCloud]:
    """It, while the context lasts."""
    issuer = Issuer(folder / "authority")
    enrolment = Enrolment(issuer, SYSTEM_CLOCK.now, {})
    dp = Endpoints(issuer, enrolment, Ledger(folder / "events.jsonl"), lambda: None)
    dp.environments = frozenset({ENV, OTHER_ENV})
    front = Front()
    async with listening(dp.app(), server_context(issuer, issuer.server(folder, "server"))) as port:
        await front.open(etcd=1, app=port)
        try:
            yield RestCloud(folder, front, issuer, dp, enrolment)
        finally:
            await front.close()


def identity_of(bundle: Bundle) -> Identity:
    return identify(bundle.certificate, bundle.key, bundle.ca, SYSTEM_CLOCK.now())


def expired_identity(bundle: Bundle) -> Identity:
    """Of a bundle that is not valid any more."""
    leaf = x509.load_pem_x509_certificate(bundle.certificate.encode())
    return identify(bundle.certificate, bundle.key, bundle.ca, leaf.not_valid_after_utc - dt.timedelta(seconds=1))
