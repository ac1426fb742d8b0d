"""What a node has of an owner: when it begins a run, and what its runs take."""

import threading

import pytest

from ..waiting import until
from .conftest import import_dask

RELEASES, BEGUN = {}, []


def wait_for(name):
    BEGUN.append(name)
    RELEASES[name].wait(20)


def note(number):
    BEGUN.append(number)


@pytest.fixture(autouse=True)
def begun():
    """What has begun; what waits is released in the end."""
    BEGUN.clear()
    yield BEGUN
    for release in RELEASES.values():
        release.set()


def release_of(name):
    release = RELEASES[name] = threading.Event()
    return release


@pytest.fixture
async def node():
    import_dask()
    from ..inside_nodes import Node

    node = Node({"GPU": 1, "disk": 0.3})
    yield node
    await node.close()


async def test_what_has_come_while_the_node_stood_still_begins_once_its_owner_is_heard_of(node, begun):
    owner = node.owner("o")
    began = owner.now
    owner.begin(1, note, 1)
    await until(lambda: owner.ended() == [1])
    owner.now += 10.1  # its lease has run out, and nobody has looked yet
    owner.begin(2, note, 2)
    owner.begin(3, note, 3)
    owner.say("stop", 3, "cancel", "", 1.0)
    owner.echo(began)  # which was said before it stood still
    assert owner.ended() == [1, 3]
    owner.echo(owner.now)
    await until(lambda: owner.ended() == [1, 3, 2])
    assert begun == [1, 2]


async def test_the_end_of_one_that_cannot_begin_has_the_next_begin(node, begun):
    first, other = node.owner("first"), node.owner("other")
    release = release_of("first")
    first.begin(1, wait_for, "first", resources={"GPU": 1})
    for number in (1, 2, 3):
        other.begin(number, note, number, resources={"GPU": 1}, options=b"nothing that can be loaded")
    other.begin(4, note, 4, resources={"GPU": 1})
    assert other.taken == {"GPU": 1}
    assert not other.ended()
    release.set()
    await until(lambda: other.ended() == [1, 2, 3, 4])
    assert first.ended() == [1]
    assert begun == ["first", 4]
    assert not [*first.errors(), *other.errors()]
    assert first.taken == other.taken == {}


async def test_fractions_of_a_resource_add_up_and_leave_nothing_behind(node):
    owner = node.owner("o")
    other = node.owner("other")
    releases = [release_of(number) for number in range(3)]
    for number in range(3):
        owner.begin(number, wait_for, number, resources={"disk": 0.1})
    owner.begin(3, note, 3, resources={"disk": 0.3})
    await until(lambda: sorted(BEGUN) == [0, 1, 2])  # each had its third
    releases[1].set()
    await until(lambda: owner.ended() == [1])
    releases[0].set()
    releases[2].set()
    await until(lambda: sorted(owner.ended()) == [0, 1, 2, 3])
    amounts = [0.7, 0.1, 0.2, 0.3, 0.6]
    for number, amount in enumerate(amounts * 40):
        owner.begin(number + 10, int, resources={"GPU": amount})
    await until(lambda: len(owner.ended()) == 204)
    assert other.taken == {}
    owner.begin(2000, int, resources={"GPU": 1})
    await until(lambda: 2000 in owner.ended())
