"""A stand-in for AISIX Cloud: etcd behind client certificates and the `/dp/*` calls, on one port, with a CA of its own.

    async with cloud(tmp_path / "cloud") as c:      # two environments: c.a, c.b (UUIDs)
        c.url, c.endpoint                           # "https://127.0.0.1:34567", "127.0.0.1:34567"
        c.issuer.ca, c.issuer.ca_file, c.issuer.pin # the authority: PEM, path, SHA-256 of its SPKI
        token = c.token(c.a)                        # one-time, for POST /dp/enroll
        bundle = c.issue(c.a, lifetime=timedelta(minutes=1))   # a certificate without it; negative: expired
        bundle.write(folder); bundle.tls(folder); bundle.material()   # as files, for aiohttp, for EtcdClient
        await c.revoke(bundle.identity.serial)      # nothing takes it any more; open etcd connections are cut
        c.enrolment.lifetime = timedelta(seconds=9) # of what is issued by /dp/enroll and /dp/rotate-cert from now on

        await c.put(c.a, "models", "m-1", {...})    # the revision it has; external kinds go to their root by themselves
        await c.put_raw(key, b"...")                # whatever it is, wherever
        await c.put_many(c.a, "api_keys", {id: document, ...})
        await c.delete(c.a, "models", "m-1"); await c.rows(c.a); await c.revision(); await c.compact()

        c.heartbeats                                # what gateways said, with the certificate's identity
        c.events, c.ledger.duplicates, c.ledger.conflicts, c.ledger.batches
        c.budgets["key-id"] = {"allow": False, "fail_mode": "closed", ...}; c.dp.budget_asks
        c.dp.calls                                  # by path and status

        await c.front.refuse(); c.front.silence(Lane.ETCD); await c.front.heal()   # see front.py
        c.troubles.add("/dp/telemetry", status=503); c.troubles.clear()            # see endpoints.py
        await c.snapshot("before"); await c.restore("before")   # etcd goes back to an older revision
        await c.replace()                           # another, empty etcd
        await c.kill_etcd(); await c.start_etcd(); c.etcd.pause(); c.etcd.resume()

The folder is its memory: a Cloud that is started on it anew has the same authority, environments, tokens, rows and
events. `python -m tests.support.cloud --port N --folder F` runs it as a process and prints, as one line of JSON, what
is needed to talk to it (`__main__.py`); other processes steer that one over plain HTTP (`control.py`).
"""

from .front import Front, Lane
from .issuer import Bundle, Identity
from .ledger import Event, Heartbeat
from .standin import Cloud, cloud

__all__ = ["Bundle", "Cloud", "Event", "Front", "Heartbeat", "Identity", "Lane", "cloud"]
