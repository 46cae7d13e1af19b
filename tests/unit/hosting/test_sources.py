from functools import cached_property
from pathlib import Path

import pytest
from mode import Service

from aiopype import AsyncProtocol, Source
from aiopype.hosting import sources as sources_module
from aiopype.hosting.sources import OwnedSources
from aiopype.ownership import Wish, worker_name
from aiopype.pipelines import Pipelines
from aiopype.settings import Settings


class Waits(Source):
    async def start(self):
        pass


class Part(Service):
    """A part of the service: notes what it is told."""

    def __init__(self, name, steps, args, options):
        super().__init__()
        self.name, self.steps = name, steps
        self.args, self.options = args, options

    async def on_start(self):
        self.steps.append(f"start {self.name}")

    async def on_stop(self):
        self.steps.append(f"stop {self.name}")

    # what the election, the wishes and the connections have

    is_member = False
    position = 7

    @cached_property
    def of(self):
        return {}

    @cached_property
    def pins(self):
        return {}

    def rejoin(self):
        self.steps.append("rejoin")

    async def confirm(self, source):
        self.steps.append(f"confirm {source}")

    async def next(self):
        return self


class FakeSources(Part):
    @cached_property
    def held(self):
        return {"quotes.a": 3}

    def start(self, on_given_up):
        self.on_given_up = on_given_up
        self.steps.append(f"start {self.name}")

    def look_again(self):
        self.steps.append("look again")

    def assign(self, names):
        self.steps.append(f"assign {sorted(names)}")

    def suspend(self, reason):
        self.steps.append(f"suspend: {reason}")


@pytest.fixture
def steps():
    """What was started, stopped and told, in order."""
    return []


@pytest.fixture
def parts(steps, monkeypatch):
    """The parts, each of which only notes what it is told, by their class's name."""
    made = {}

    def replace(name, kind):
        def make(*args, **options):
            made[name] = kind(name, steps, args, options)
            return made[name]

        monkeypatch.setattr(sources_module, name, make)

    for name in ("Clients", "Wishes", "Election", "SourceStates"):
        replace(name, Part)
    replace("Sources", FakeSources)
    return made


@pytest.fixture
def build(declare, parts):
    """Builds the service of a flow with these sources."""

    def make(*names):
        declare(
            lambda m: [Waits(m.build_processor_name(name), m.handler) for name in names],
            name="quotes",
        )
        pipelines = Pipelines(["quotes"], AsyncProtocol())
        settings = Settings(("quotes",), "shop", "a:1", Path())
        return OwnedSources(settings, "a:1", pipelines, "admin", "limits")

    return make


@pytest.fixture
async def owned(build):
    """Of two sources."""
    return build("a", "b")


async def test_it_knows_what_is_wished_before_it_joins_the_group(owned, steps):
    await owned.on_start()

    assert steps == ["start Clients", "start Wishes", "start Sources", "start Election"]


async def test_the_sources_have_stopped_before_it_leaves_the_group(owned, steps):
    await owned.on_start()
    steps.clear()

    await owned.on_stop()

    assert steps[:2] == ["stop Sources", "stop Election"]
    assert sorted(steps[2:]) == ["stop Clients", "stop SourceStates", "stop Wishes"]


async def test_a_flow_without_sources_joins_nothing_and_lacks_nothing(build, steps):
    owned = build()

    await owned.on_start()

    assert steps == []
    assert owned.is_member
    assert owned.problem() is None


async def test_the_topic_of_states_is_made_before_anything_is_read(declare, parts):
    declare(name="quotes")
    pipelines = Pipelines(["quotes"], AsyncProtocol())
    settings = Settings(("quotes",), "shop", "a:1", Path())

    OwnedSources(settings, "a:1", pipelines, "admin", "limits")

    assert [topic.name for topic in pipelines.protocol.graph.unresolved] == ["shop.source-state"]


async def test_a_worker_out_of_the_group_is_not_ready(owned, parts):
    assert not owned.is_member
    assert "out of the group that spreads the sources" in owned.problem().reason

    parts["Election"].is_member = True

    assert owned.is_member
    assert owned.problem() is None


async def test_it_says_of_itself_what_it_has_and_knows_when_it_joins(owned, parts):
    parts["Wishes"].of["quotes.b"] = Wish(is_paused=True)

    said = parts["Election"].options["member"]()

    assert said.worker == worker_name()
    assert said.can == ("quotes.a", "quotes.b")
    assert said.runs == {"quotes.a": 3}
    assert said.wishes == {"quotes.b": Wish(is_paused=True)}
    assert said.wishes_at == 7


async def test_what_the_group_says_is_told_to_the_sources(owned, parts, steps):
    parts["Election"].options["on_assigned"](frozenset({"quotes.a"}))
    parts["Election"].options["on_lost"]("why")

    assert steps == ["assign ['quotes.a']", "suspend: why"]


async def test_what_has_been_given_up_is_given_to_others(owned, parts, steps):
    await owned.on_start()
    steps.clear()

    parts["Sources"].on_given_up()

    assert steps == ["rejoin"]


async def test_a_wish_that_moves_nothing_is_told_to_the_sources_alone(owned, parts, steps):
    await owned.on_start()
    steps.clear()

    parts["Wishes"].options["on_change"]()

    assert steps == ["look again"]


async def test_a_wish_that_moves_a_source_has_all_spread_anew_once(owned, parts, steps):
    parts["Wishes"].pins = {"quotes.a": "host"}
    await owned.on_start()
    steps.clear()
    wished = parts["Wishes"].options["on_change"]

    wished()
    assert steps == ["look again"]

    parts["Wishes"].pins = {"quotes.a": "other"}
    wished()
    wished()
    assert steps.count("rejoin") == 1


async def test_the_producer_of_a_source_shares_a_connection(owned, parts):
    owning = parts["Sources"].args[2]

    producer = await owning.connect("shop.src.quotes.a")

    assert producer._client is parts["Clients"]
    assert producer._identity.transactional_id == "shop.src.quotes.a"


async def test_what_the_outboxes_share_is_the_flows(owned, parts, steps):
    owning = parts["Sources"].args[2]

    await owning.confirm("quotes.a")

    assert (owning.group, owning.worker, owning.limits) == ("shop", worker_name(), "limits")
    assert owning.states is parts["SourceStates"]
    assert parts["Sources"].args[3] is parts["Wishes"].of
    assert steps == ["confirm quotes.a"]
