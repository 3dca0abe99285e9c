"""How other processes steer a Cloud that is a process: plain HTTP on a loopback port, JSON in and out. For tests only.

PUT, DELETE /rows/<env id>/<kind>/<id>    the document is the body; answers {"revision"}
GET    /rows/<env id>                     {"<kind>/<id>": document}
GET    /state                             revision, heartbeats, counts of events, duplicates, conflicts, calls
GET    /events                            [{env_id, dp_id, document}] in the order of their arrival
PUT    /budgets/<API key id>              the decision is the body
POST   /tokens/<env id>                   {"token"}
POST   /troubles  {path, status, delay, garbage, lost, times}    see endpoints.py; DELETE clears
POST   /front/<refuse|silence|reset|garble|cut|heal>[?lane=etcd|app]
POST   /compact
"""

import dataclasses
import json

from aiohttp import web

from .front import Lane
from .standin import Cloud
from .tenants import roots


def control(cloud: Cloud) -> web.Application:
    """The app."""

    async def put(request: web.Request) -> web.Response:
        revision = await cloud.put(*_row(request), await request.json())
        return web.json_response({"revision": revision})

    async def delete(request: web.Request) -> web.Response:
        await cloud.delete(*_row(request))
        return web.json_response({"revision": await cloud.revision()})

    async def rows(request: web.Request) -> web.Response:
        env_id = request.match_info["env"]
        found = {}
        for row in await cloud.rows(env_id):
            root = next(root for root in roots(env_id) if row.key.startswith(root))
            found[row.key.removeprefix(root)] = json.loads(row.value)
        return web.json_response(found)

    async def state(request: web.Request) -> web.Response:
        ledger = cloud.ledger
        return web.json_response(
            {
                "revision": await cloud.revision(),
                "heartbeats": [dataclasses.asdict(each) for each in ledger.heartbeats],
                "events": len(ledger.events),
                "duplicates": ledger.duplicates,
                "conflicts": ledger.conflicts,
                "batches": len(ledger.batches),
                "calls": {f"{path} {status}": count for (path, status), count in cloud.dp.calls.items()},
                "budget_asks": dict(cloud.dp.budget_asks),
            }
        )

    async def events(request: web.Request) -> web.Response:
        return web.json_response([dataclasses.asdict(each) for each in cloud.events.values()])

    async def budget(request: web.Request) -> web.Response:
        cloud.budgets[request.match_info["key"]] = await request.json()
        return web.json_response({})

    async def token(request: web.Request) -> web.Response:
        return web.json_response({"token": cloud.token(request.match_info["env"])})

    async def trouble(request: web.Request) -> web.Response:
        wanted = await request.json()
        cloud.troubles.add(wanted.pop("path"), **wanted)
        return web.json_response({})

    async def calm(request: web.Request) -> web.Response:
        cloud.troubles.clear()
        return web.json_response({})

    async def front(request: web.Request) -> web.Response:
        lanes = [Lane(name) for name in request.query.getall("lane", [])]
        match request.match_info["what"]:
            case "refuse":
                await cloud.front.refuse()
            case "heal":
                await cloud.front.heal()
            case "silence":
                cloud.front.silence(*lanes)
            case "reset":
                cloud.front.reset(*lanes)
            case "garble":
                cloud.front.garble(*lanes)
            case "cut":
                cloud.front.cut(*lanes)
            case _:
                raise web.HTTPNotFound
        return web.json_response({})

    async def compact(request: web.Request) -> web.Response:
        await cloud.compact()
        return web.json_response({})

    app = web.Application()
    app.add_routes(
        [
            web.put("/rows/{env}/{kind}/{id}", put),
            web.delete("/rows/{env}/{kind}/{id}", delete),
            web.get("/rows/{env}", rows),
            web.get("/state", state),
            web.get("/events", events),
            web.put("/budgets/{key}", budget),
            web.post("/tokens/{env}", token),
            web.post("/troubles", trouble),
            web.delete("/troubles", calm),
            web.post("/front/{what}", front),
            web.post("/compact", compact),
        ]
    )
    return app


def _row(request: web.Request) -> tuple[str, str, str]:
    found = request.match_info
    return found["env"], found["kind"], found["id"]
