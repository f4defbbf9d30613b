from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from headgate_api.conditions import Reason
from headgate_api.errors import Unavailable
from headgate_api.snapshot import Entry, GatewayReport, Identity, TenantBody
from headgate_controllers.contract import Key, Manifest, Note, Programmed
from headgate_operator.gateways import AskByHttp, Gateways
from headgate_operator.store import Store
from headgate_policy.snapshot import make_entry

from .fakes import FakeGateways

ACME = Key("TenantQuota", "chat", "acme")
IDENTITY = Identity(kind="TenantQuota", namespace="chat", name="acme")
ENTRY = make_entry(IDENTITY, uid="u", generation=1, body=TenantBody(tenant="acme"))


def gateway(name: str, *, ready: bool = True) -> Manifest:
    status = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]}
    meta = {"name": name, "uid": f"uid-{name}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}


def report(sequence: int, **more: Any) -> GatewayReport:
    return GatewayReport(schema=1, epoch=1, sequence=sequence, **more)


@dataclass
class FakeSnapshot:
    version: tuple[int, int] = (1, 1)
    entry: Entry | None = None
    written: tuple[int, int] | None = None

    def accepted(self, key: Key) -> Entry | None:
        return self.entry

    def since(self, key: Key) -> tuple[int, int] | None:
        return self.written


@dataclass
class Scene:
    snapshot: FakeSnapshot = field(default_factory=FakeSnapshot)
    store: Store = field(default_factory=Store)
    ask: FakeGateways = field(default_factory=FakeGateways)
    woken: list[Key] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    now: float = 0.0
    gateways: Gateways = field(init=False)

    def __post_init__(self) -> None:
        self.gateways = Gateways(
            self.snapshot, self.store, self.ask, self.woken.append, self.tell, lambda: self.now
        )

    async def tell(self, about: Manifest, note: Note) -> None:
        self.told.append(f"{about['metadata']['name']}: {note.reason}")

    async def publish(self, sequence: int) -> None:
        self.snapshot.version = self.snapshot.written = (1, sequence)
        self.snapshot.entry = ENTRY
        self.gateways.published([ENTRY])
        await self.gateways.round()


async def test_nobody_enforces_it_while_no_gateway_is_ready() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g", ready=False))
    assert Programmed("NoGateways") == scene.gateways.programmed(ACME, 1)


async def test_what_is_not_written_yet_is_on_no_gateway() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g"))
    scene.ask.reports["g"] = report(9)
    await scene.gateways.round()
    assert Programmed("GatewaysBehind", ("g",)) == scene.gateways.programmed(ACME, 1)


async def test_an_object_waits_for_the_last_gateway_and_is_woken_then() -> None:
    scene = Scene()
    for name in ("g", "h"):
        scene.gateways.put(gateway(name))
    scene.ask.reports = {"g": report(2), "h": report(1)}
    await scene.publish(2)
    assert Programmed("GatewaysBehind", ("h",)) == scene.gateways.programmed(ACME, 1)
    assert [] == scene.woken

    scene.ask.reports["h"] = report(2)
    await scene.gateways.round()

    assert [ACME] == scene.woken
    assert Programmed("AllGateways") == scene.gateways.programmed(ACME, 1)


async def test_a_gateway_that_cannot_read_the_object_is_behind() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g"))
    scene.ask.reports["g"] = report(2, kept=(IDENTITY,))
    await scene.publish(2)
    assert Programmed("GatewaysBehind", ("g",)) == scene.gateways.programmed(ACME, 1)


async def test_an_older_generation_in_force_does_not_count_for_a_newer() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g"))
    scene.ask.reports["g"] = report(2)
    await scene.publish(2)
    assert Programmed("GatewaysBehind", ("g",)) == scene.gateways.programmed(ACME, 2)


async def test_the_last_lagging_gateway_going_away_completes_it() -> None:
    scene = Scene()
    for name in ("g", "h"):
        scene.gateways.put(gateway(name))
    scene.ask.reports = {"g": report(2)}
    await scene.publish(2)
    scene.gateways.gone("h")
    await scene.gateways.round()
    assert [ACME] == scene.woken


@pytest.mark.parametrize(
    ("reason", "found"),
    [(Reason.ALL_GATEWAYS, "AllGateways"), (Reason.KEPT_LAST_ACCEPTED, "NoGateways")],
)
async def test_what_was_true_of_a_generation_stays_true(reason: Reason, found: str) -> None:
    """A new leader has asked nobody yet; that is no reason to say otherwise."""
    scene = Scene()
    condition = {"type": "Programmed", "reason": str(reason), "observedGeneration": 3}
    meta = {"name": "acme", "namespace": "chat", "uid": "u", "resourceVersion": "1"}
    quota = {"apiVersion": "headgate.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta}
    scene.store.put(quota | {"status": {"conditions": [condition]}})
    assert found == scene.gateways.programmed(ACME, 3).state
    assert "NoGateways" == scene.gateways.programmed(ACME, 4).state


async def test_a_pod_of_the_same_name_has_not_said_what_the_one_before_said() -> None:
    """A StatefulSet gives its names again, and a watch may miss the time between."""
    scene = Scene()
    scene.gateways.put(gateway("g"))
    scene.ask.reports["g"] = report(2)
    await scene.publish(2)
    again = gateway("g")
    again["metadata"]["uid"] = "another"
    scene.gateways.put(again)
    assert Programmed("GatewaysBehind", ("g",)) == scene.gateways.programmed(ACME, 1)


async def test_a_gateway_that_gives_no_report_is_logged_once() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g"))
    with capture_logs() as lines:
        for reports in ({}, {}, {"g": report(1)}, {}):
            scene.ask.reports = reports
            await scene.gateways.round()
    assert ["gateway does not report"] * 2 == [line["event"] for line in lines]


async def test_a_gateway_that_stays_behind_is_told_of_once() -> None:
    scene = Scene()
    scene.gateways.put(gateway("g"))
    scene.ask.reports["g"] = report(1)
    await scene.publish(2)
    for scene.now in (9.0, 11.0, 12.0):
        await scene.gateways.round()
    assert ["g: GatewaysBehind"] == scene.told

    scene.ask.reports["g"] = report(2)
    await scene.gateways.round()
    await scene.publish(3)
    scene.now = 30.0
    await scene.gateways.round()
    assert ["g: GatewaysBehind"] * 2 == scene.told


async def test_a_gateway_is_asked_with_our_token(tmp_path: Path) -> None:
    heard: list[str] = []

    async def snapshot(request: web.Request) -> web.Response:
        heard.append(request.headers["Authorization"])
        status = 200 if len(heard) == 1 else 403
        return web.Response(body=msgspec.json.encode(report(7)), status=status)

    app = web.Application()
    app.router.add_get("/snapshot", snapshot)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "token").write_text("abc\n")
    async with aiohttp.ClientSession() as http:
        ask = AskByHttp(http, runner.addresses[0][1], tmp_path / "token")
        assert report(7) == await ask(gateway("g"))
        with pytest.raises(Unavailable, match="answered 403"):
            await ask(gateway("g"))
    await runner.cleanup()
    assert ["Bearer abc"] * 2 == heard
