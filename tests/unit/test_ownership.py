import os
import random
import socket

import msgspec
import pytest

from aiopype.errors import StateCorrupt
from aiopype.ownership import (
    Member,
    SourceState,
    Stopped,
    Wish,
    is_meant,
    spread,
    state_topic,
    wish_topic,
    worker_name,
)

#: Random cases of each property.
CASES = 200

#: JSON whose objects are too deep for any reader.
DEEP = b'{"v":1,"new":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

DAMAGED = [b"", b"garbage", b"[1]", b'{"v":1', b'{"v":"1"}', b'{"v":1,"worker":"\xff"}', DEEP]


@pytest.fixture
def state():
    """Makes a state; what is not given makes no difference."""

    def make(**given):
        whole = {"epoch": 3, "run": "r", "number": 7, "worker": "a:1", "since_ms": 5, "at_ms": 6}
        if "position" in given:
            given["position"] = msgspec.Raw(given["position"])
        return SourceState(**(whole | given))

    return make


# --- names


def test_the_topics_are_named_after_the_group():
    assert state_topic("shop.quotes") == "shop.quotes.source-state"
    assert wish_topic("shop.quotes") == "shop.quotes.sources"


def test_a_worker_is_called_by_its_host_and_process():
    assert worker_name() == f"{socket.gethostname()}:{os.getpid()}"


@pytest.mark.parametrize("wanted", ["host:12", "host"])
def test_a_wish_means_a_worker_by_its_name_or_its_hosts(wanted):
    assert is_meant("host:12", wanted)


@pytest.mark.parametrize("wanted", [None, "", "hos", "host:1", "host:123", "other", "12"])
def test_a_wish_means_no_other_worker(wanted):
    assert not is_meant("host:12", wanted)


# --- states


def test_a_state_is_read_as_it_was_written(state):
    written = state(position=b'{"page":2}', is_paused=True, restart=4)

    read = SourceState.decode("m.s", written.encode())

    assert read.encode() == written.encode()
    assert (read.run, read.number, read.is_paused, read.restart) == ("r", 7, True, 4)
    assert read.raw_position == b'{"page":2}'


@pytest.mark.parametrize("position", [b"null", None])
def test_a_state_before_the_first_position_has_none(state, position):
    given = {} if position is None else {"position": position}

    assert SourceState.decode("m.s", state(**given).encode()).raw_position is None


@pytest.mark.parametrize("position", [b"0", b"false", b'""', b"[]", b"{}"])
def test_a_position_that_is_empty_is_one(state, position):
    read = SourceState.decode("m.s", state(position=position).encode())

    assert read.raw_position == position


def test_fields_that_a_later_release_adds_are_passed_over(state):
    raw = state().encode()[:-1] + b',"colour":"red"}'

    assert SourceState.decode("m.s", raw).encode() == state().encode()


def test_a_state_written_before_there_were_wishes_in_it_is_read(state):
    raw = (
        b'{"v":1,"position":null,"epoch":3,"run":"r","number":7,"worker":"a:1",'
        b'"since_ms":5,"at_ms":6}'
    )

    assert SourceState.decode("m.s", raw).encode() == state().encode()


def test_that_a_source_does_not_run_is_read_as_it_was_written(state):
    stopped = Stopped(state="quarantined", since_ms=5, reason="it broke", again_ms=9)

    assert SourceState.decode("m.s", state(stopped=stopped).encode()).stopped == stopped


def test_of_a_state_that_says_nothing_of_it_the_source_runs(state):
    raw = state().encode().replace(b',"stopped":null', b"")

    assert b"stopped" not in raw
    assert SourceState.decode("m.s", raw).stopped is None


@pytest.mark.parametrize("raw", [*DAMAGED, b'{"v":1}'])
def test_a_state_that_cannot_be_read_says_of_which_source_and_how_to_go_on(raw):
    with pytest.raises(StateCorrupt, match=r"source 'm\.s' .* `aiopype sources reset TARGET m\.s"):
        SourceState.decode("m.s", raw)


def test_a_state_that_was_deleted_says_so():
    with pytest.raises(StateCorrupt, match="it has been deleted"):
        SourceState.decode("m.s", None)


def test_a_state_of_a_later_version_says_so_whatever_else_is_in_it():
    with pytest.raises(StateCorrupt, match="it is of version 2, and this is 1: update"):
        SourceState.decode("m.s", b'{"v":2,"where":"elsewhere"}')


def test_only_a_state_that_an_operator_wrote_is_reset(state):
    assert state(run="reset-1").is_reset
    assert not state(run="r").is_reset


# --- wishes and members


def test_a_wish_is_read_as_it_was_written():
    wish = Wish(is_paused=True, worker="host", restart=2, at_ms=5)

    assert Wish.decode(wish.encode()) == wish


@pytest.mark.parametrize("raw", [None, *DAMAGED, b'{"v":1,"is_paused":3}'])
def test_a_wish_that_cannot_be_read_is_none(raw):
    assert Wish.decode(raw) == Wish()


def test_a_member_is_read_as_it_was_written():
    member = Member(
        worker="host:1",
        can=("m.a", "m.b"),
        runs={"m.a": 3},
        wishes={"m.b": Wish(worker="host")},
        wishes_at=9,
    )

    assert Member.decode(member.encode()) == member


@pytest.mark.parametrize("raw", [*DAMAGED, b'{"v":1,"worker":"a","can":3}'])
def test_a_member_that_cannot_be_read_can_run_nothing(raw):
    assert Member.decode(raw).can == ()


# --- spreading: small cases


def names(count):
    return tuple(f"m.s{n:02}" for n in range(count))


def member(worker, can=(), runs=(), **more):
    """A member that runs these sources, each as its second owner."""
    return Member(worker=worker, can=tuple(can), runs=dict.fromkeys(runs, 2), **more)


def test_without_members_nothing_is_given():
    assert spread({}) == {}


def test_one_member_gets_all():
    assert spread({"x": member("a", names(3))}) == {"x": list(names(3))}


def test_a_member_without_sources_gets_an_empty_list():
    assert spread({"x": member("a", names(2)), "y": member("b")}) == {
        "x": list(names(2)),
        "y": [],
    }


def test_ten_sources_of_three_workers_are_four_three_and_three():
    given = spread({name: member(name, names(10)) for name in "abc"})

    assert sorted(map(len, given.values())) == [3, 3, 4]


def test_a_source_that_another_has_waits_until_that_one_has_given_it_up():
    both = {"x": member("a", names(2), runs=names(2)), "y": member("b", names(2))}

    first = spread(both)

    assert first == {"x": ["m.s00"], "y": []}
    both["x"] = member("a", names(2), runs=["m.s00"])
    assert spread(both) == {"x": ["m.s00"], "y": ["m.s01"]}


def test_of_two_who_claim_a_source_the_one_of_the_higher_epoch_has_it():
    for lower in ("x", "y"):
        members = {
            name: Member(worker=name, can=("m.s",), runs={"m.s": 4 if name == lower else 5})
            for name in ("x", "y")
        }

        given = spread(members)

        assert given[lower] == []
        assert [source for sources in given.values() for source in sources] == ["m.s"]


def test_who_has_a_source_that_its_program_has_no_more_keeps_nobody_from_it_once_it_is_given_up():
    members = {"x": member("a", (), runs=["m.s"]), "y": member("b", ["m.s"])}
    assert spread(members) == {"x": [], "y": []}

    members["x"] = member("a")
    assert spread(members) == {"x": [], "y": ["m.s"]}


def test_what_is_wished_last_counts_whoever_knows_of_it():
    older, newer = {"m.s": Wish(worker="a")}, {"m.s": Wish(worker="b")}
    members = {
        "x": member("a", ["m.s"], wishes=older, wishes_at=7),
        "y": member("b", ["m.s"], wishes=newer, wishes_at=8),
    }

    assert spread(members) == {"x": [], "y": ["m.s"]}


def test_a_wish_for_a_host_leaves_a_source_on_the_worker_of_it_that_has_it():
    wishes = {"m.s": Wish(worker="host")}
    members = {
        "x": member("host:1", ["m.s"], wishes=wishes),
        "y": member("host:2", ["m.s"], runs=["m.s"], wishes=wishes),
    }

    assert spread(members) == {"x": [], "y": ["m.s"]}


def test_sources_wished_on_a_host_are_spread_over_its_workers():
    wishes = dict.fromkeys(names(4), Wish(worker="host"))
    members = {
        worker: member(worker, names(4), wishes=wishes) for worker in ("host:1", "host:2", "b:1")
    }

    given = spread(members)

    assert [len(given[worker]) for worker in ("host:1", "host:2", "b:1")] == [2, 2, 0]


# --- spreading: whatever the case


def every_case(check):
    """Make a test of a property that random cases must have; it prints the seed of each."""

    def test():
        for seed in range(CASES):
            print("seed", seed)
            check(random.Random(seed))

    test.__name__ = check.__name__
    return test


def settle(members, rounds=10):
    """Spread again and again, each member running what it is given; return members and rounds."""
    for count in range(rounds):
        given = spread(members)
        if all(set(given[name]) == set(each.runs) for name, each in members.items()):
            return members, count
        epochs = {s: e for each in members.values() for s, e in each.runs.items()}
        members = {
            name: with_runs(each, {s: each.runs.get(s, epochs.get(s, 0) + 1) for s in given[name]})
            for name, each in members.items()
        }
    raise AssertionError(f"sources still move after {rounds} rounds")


def with_runs(each, runs):
    return Member(
        worker=each.worker, can=each.can, runs=runs, wishes=each.wishes, wishes_at=each.wishes_at
    )


def group(chance, workers=None, sources=None):
    """Some workers on some hosts that can all run the same sources, and run none."""
    can = names(chance.randint(0, 40) if sources is None else sources)
    count = workers or chance.randint(1, 9)
    hosts = chance.randint(1, 3)
    return {
        f"id-{chance.random()}": Member(worker=f"host{chance.randrange(hosts)}:{n}", can=can)
        for n in range(count)
    }


def wild(chance):
    """A group in any state: programs, claims and wishes of all kinds."""
    everything = names(chance.randint(1, 25))
    workers = [f"host{chance.randrange(3)}:{n}" for n in range(chance.randint(1, 7))]
    places = [None, "host0", "host1", "nowhere", *workers]

    def some(share):
        return tuple(name for name in everything if chance.random() < share)

    return {
        f"id-{chance.random()}": Member(
            worker=worker,
            can=some(chance.choice([0.0, 0.5, 0.9, 1.0])),
            runs={name: chance.randint(0, 3) for name in some(chance.choice([0.0, 0.3]))},
            wishes={name: Wish(worker=chance.choice(places)) for name in some(0.3)},
            wishes_at=chance.randint(0, 3),
        )
        for worker in workers
    }


def owners(given):
    return {source: name for name, sources in given.items() for source in sources}


def loads(members):
    return {name: len(each.runs) for name, each in members.items()}


@every_case
def test_each_source_is_given_once_at_most_and_to_one_whose_program_has_it(chance):
    members = wild(chance)

    given = spread(members)

    everything = [source for sources in given.values() for source in sources]
    assert len(everything) == len(set(everything))
    assert given.keys() == members.keys()
    for name, sources in given.items():
        assert set(sources) <= set(members[name].can)


@every_case
def test_no_source_is_given_to_another_before_it_is_given_up(chance):
    members = wild(chance)

    given = owners(spread(members))

    for source, owner in given.items():
        claims = {name: m.runs[source] for name, m in members.items() if source in m.runs}
        if claims:
            assert claims.get(owner) == max(claims.values())


@every_case
def test_who_spreads_makes_no_difference(chance):
    members = wild(chance)
    shuffled = list(members.items())
    chance.shuffle(shuffled)

    # Of those who know of the same wishes any may be the first.
    if len({each.wishes_at for each in members.values()}) == len(members):
        assert spread(dict(shuffled)) == spread(members)


@every_case
def test_in_the_end_each_source_that_a_program_has_is_somebodys(chance):
    # Two rounds, where sources are pinned rarely one or two more that even that out.
    members, rounds = settle(wild(chance))

    assert rounds <= 4
    for name in {source for each in members.values() for source in each.can}:
        assert sum(name in each.runs for each in members.values()) == 1


@every_case
def test_without_wishes_two_rounds_are_enough_from_wherever_it_begins(chance):
    plain = group(chance)
    can = next(iter(plain.values())).can
    claimed = {
        name: with_runs(each, {s: chance.randint(0, 3) for s in can if chance.random() < 0.4})
        for name, each in plain.items()
    }

    assert settle(claimed)[1] <= 2


@every_case
def test_where_all_can_run_all_each_has_as_many_as_the_others_or_one_more(chance):
    members, _ = settle(group(chance))

    counts = loads(members).values()
    assert max(counts) - min(counts) <= 1


@every_case
def test_nothing_moves_when_nothing_changes(chance):
    members, _ = settle(wild(chance))

    given = spread(members)

    assert {name: set(sources) for name, sources in given.items()} == {
        name: set(each.runs) for name, each in members.items()
    }


@every_case
def test_the_end_of_a_member_moves_its_sources_only(chance):
    before, _ = settle(group(chance, workers=chance.randint(2, 9)))
    gone = chance.choice(sorted(before))
    left = {name: each for name, each in before.items() if name != gone}

    after, rounds = settle(left)

    assert rounds <= 1
    for name in left:
        assert set(after[name].runs) >= set(before[name].runs)
    assert set().union(*(each.runs for each in after.values())) == set(before[gone].can)


@every_case
def test_a_member_that_joins_gets_its_share_and_nothing_else_moves(chance):
    before, _ = settle(group(chance))
    can = next(iter(before.values())).can
    joined = before | {"new": Member(worker="new:1", can=can)}

    after, rounds = settle(joined)

    assert rounds <= 2
    assert len(after["new"].runs) == len(can) // len(joined)
    for name in before:
        assert set(after[name].runs) <= set(before[name].runs)


@every_case
def test_while_a_member_joins_all_that_stays_runs_on(chance):
    before, _ = settle(group(chance))
    can = next(iter(before.values())).can
    joined = before | {"new": Member(worker="new:1", can=can)}

    first = spread(joined)

    assert first["new"] == []
    given_up = sum(len(before[name].runs) - len(first[name]) for name in before)
    assert given_up == len(can) // len(joined)


@every_case
def test_sources_are_where_they_are_wished_as_long_as_there_is_such_a_worker(chance):
    plain = group(chance, workers=chance.randint(2, 9))
    workers = [each.worker for each in plain.values()]
    hosts = [worker.partition(":")[0] for worker in workers]
    can = next(iter(plain.values())).can
    wishes = {s: Wish(worker=chance.choice(workers + hosts)) for s in can if chance.random() < 0.5}

    members, rounds = settle(wished(settle(plain)[0], wishes))

    assert rounds <= 4
    assert_meant(members, wishes)


def wished(members, wishes):
    return {
        name: Member(worker=m.worker, can=m.can, runs=m.runs, wishes=wishes, wishes_at=1)
        for name, m in members.items()
    }


def assert_meant(members, wishes):
    for each in members.values():
        for source in each.runs:
            if source in wishes:
                assert is_meant(each.worker, wishes[source].worker)


@every_case
def test_sources_that_nobody_wishes_anywhere_are_spread_beside_those(chance):
    plain = group(chance, workers=chance.randint(2, 9))
    workers = [each.worker for each in plain.values()]
    can = next(iter(plain.values())).can
    wishes = {s: Wish(worker=chance.choice(workers)) for s in can if chance.random() < 0.3}

    members, _ = settle(wished(plain, wishes))

    free = {n: sum(s not in wishes for s in each.runs) for n, each in members.items()}
    counts = loads(members)
    for one in members:
        for other in members:
            assert counts[one] - counts[other] <= 1 or free[one] - free[other] <= 1


@every_case
def test_sources_wished_on_a_worker_that_is_gone_are_spread_as_all_others(chance):
    plain = group(chance, workers=chance.randint(2, 9))
    can = next(iter(plain.values())).can
    wishes = dict.fromkeys(can, Wish(worker="gone:1"))

    members, _ = settle(wished(plain, wishes))

    assert members.keys() == settle(plain)[0].keys()
    assert {n: set(m.runs) for n, m in members.items()} == {
        n: set(m.runs) for n, m in settle(plain)[0].items()
    }


@every_case
def test_a_wish_moves_nothing_but_what_it_is_about_and_what_evens_that_out(chance):
    before, _ = settle(group(chance, workers=chance.randint(2, 9), sources=chance.randint(1, 30)))
    source = chance.choice(next(iter(before.values())).can)
    goal = chance.choice(sorted(before))
    wishes = {source: Wish(worker=before[goal].worker)}

    after, _ = settle(wished(before, wishes))

    was, now = owned(before), owned(after)
    assert now[source] == goal
    assert sum(was[name] != now[name] for name in was) <= 2


def owned(members):
    return {source: name for name, each in members.items() for source in each.runs}


@every_case
def test_claims_of_a_lower_epoch_lose(chance):
    members, _ = settle(group(chance, workers=chance.randint(2, 9), sources=chance.randint(1, 30)))
    frozen = chance.choice(sorted(members))
    # It wakes up, and thinks that it still has what others have taken over since.
    claims = {s: e - 1 for m in members.values() for s, e in m.runs.items()}
    members[frozen] = with_runs(members[frozen], claims | members[frozen].runs)

    given = owners(spread(members))

    for source, owner in owned({n: m for n, m in members.items() if n != frozen}).items():
        assert given[source] == owner
