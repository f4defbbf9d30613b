from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from headgate_api.conditions import Reason
from headgate_api.errors import Unavailable
from headgate_controllers.contract import Key, Note
from headgate_operator.events import BURST, Recorder

from .fake_api import FakeApi
from .fakes import model

WAITING = Note(Reason.STARTING, "the pods are on their way")
REFUSED = Note(Reason.PRECISION_UNSUPPORTED, "no", warning=True)
LLAMA = Key("ModelDeployment", "chat", "llama")


@dataclass
class Scene:
    api: FakeApi = field(default_factory=FakeApi)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.about = self.api.put(model("llama", "chat"))
        self.recorder = Recorder(self.api, "me", lambda: self.now)

    async def tell(self, *notes: Note, flipped: bool = True) -> None:
        await self.recorder.tell(self.about, notes, flipped=flipped)

    @property
    def said(self) -> list[str]:
        events = [e for (kind, *_), e in self.api.objects.items() if kind == "Event"]
        return [f"{e['type']} {e['reason']} x{e['count']}: {e['message']}" for e in events]


async def test_a_note_becomes_an_event_on_its_object() -> None:
    scene = Scene()
    await scene.tell(WAITING, REFUSED)
    wanted = [
        "Warning PrecisionUnsupported x1: no",
        "Normal Starting x1: the pods are on their way",
    ]
    assert wanted == scene.said
    event = next(e for (kind, *_), e in scene.api.objects.items() if kind == "Event")
    assert scene.about["metadata"]["uid"] == event["involvedObject"]["uid"]


async def test_a_note_that_stays_is_said_once() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.tell(WAITING)
    assert ["Normal Starting x1: the pods are on their way"] == scene.said


async def test_a_note_that_comes_again_counts_up() -> None:
    scene = Scene()
    await scene.tell(WAITING)
    await scene.tell()
    await scene.tell(WAITING)
    assert ["Normal Starting x2: the pods are on their way"] == scene.said


async def test_what_a_new_leader_finds_in_the_status_already_is_no_news() -> None:
    scene = Scene()
    await scene.tell(WAITING, flipped=False)
    assert [] == scene.said
    await scene.tell(WAITING, REFUSED, flipped=False)
    assert ["Warning PrecisionUnsupported x1: no"] == scene.said


async def test_a_deleted_object_is_forgotten() -> None:
    scene = Scene()
    await scene.tell(WAITING)
    scene.recorder.forget(LLAMA)
    await scene.tell(WAITING)
    assert ["Normal Starting x2: the pods are on their way"] == scene.said


async def test_a_flood_is_cut_and_time_gives_more() -> None:
    scene = Scene()
    for number in range(int(BURST) + 50):
        await scene.recorder.say(scene.about, Note(Reason.STARTING, str(number)))
    assert int(BURST) == len(scene.said)
    scene.now += timedelta(seconds=1)
    await scene.recorder.say(scene.about, WAITING)
    assert int(BURST) + 1 == len(scene.said)


async def test_a_lost_event_stops_nothing() -> None:
    scene = Scene()
    scene.api.failures["create Event"] = [Unavailable("away")]
    await scene.tell(WAITING)
    assert [] == scene.said
