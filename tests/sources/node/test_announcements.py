"""The doorbell: rings for every block and every doubt, counts what was lost, and survives whatever is sent."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers.node.bitcoind import ABSENT, BitcoindNode, bitcoind_path
from helpers.node.double import NodeDouble
from helpers.node.interface import TestNode, free_ports
from helpers.relay import Refusal, Relay
from sources.node.chains import source_of
from sources.node.conftest import MATURE, MakeNode
from utxoiq.errors import NodeUnavailable
from utxoiq.sources.node import announcements
from utxoiq.sources.node.announcements import Announcements, addresses

HUNG = 20
"""Seconds after which nothing will come any more."""
QUIET = 0.15
"""Seconds in which something would have come."""
BLOCK = bytes(range(32))


class Ear:
    """Announcements, and what they did."""

    def __init__(self) -> None:
        self.rings = 0
        self.gaps: list[tuple[int, int]] = []
        self.announcements = Announcements(self._ring, lambda lost, restarts: self.gaps.append((lost, restarts)))

    def _ring(self) -> None:
        self.rings += 1

    async def ringing(self, least: int = 1) -> None:
        """Wait until it rang so often in all."""
        async with asyncio.timeout(HUNG):
            while self.rings < least:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def quiet(self) -> int:
        """How often it rings until nothing comes any more."""
        before, seen = self.rings, -1
        while seen != self.rings:
            seen = self.rings
            await asyncio.sleep(QUIET)
        return self.rings - before


@asynccontextmanager
async def hearing(ear: Ear, *where: str) -> AsyncIterator[Ear]:
    """Listening at these addresses."""
    task = asyncio.create_task(ear.announcements.listen(where))
    await asyncio.sleep(QUIET)
    try:
        assert not task.done(), task
        yield ear
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def publisher(address: str) -> Iterator[zmq.Socket[bytes]]:
    """Somebody who may send anything."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.IPV6, 1)
    socket.bind(address)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def counter(number: int) -> bytes:
    return struct.pack("<I", number)


# Counters


def take(ear: Ear, *numbers: int, topic: bytes = b"hashblock", body: bytes = BLOCK, address: str = "a") -> None:
    for number in numbers:
        ear.announcements.take(address, topic, body, counter(number))


def test_messages_in_order() -> None:
    ear = Ear()
    take(ear, 0, 1, 2)
    assert (ear.rings, ear.gaps) == (3, [])


@pytest.mark.parametrize("first", [0, 7, 2**32 - 1])
def test_a_late_subscriber(first: int) -> None:
    """Begins at any number: nothing was lost that it had asked for."""
    ear = Ear()
    take(ear, first, (first + 1) % 2**32)
    assert ear.gaps == []


@pytest.mark.parametrize("lost", [1, 2, 11_746])
def test_lost_messages(lost: int) -> None:
    ear = Ear()
    take(ear, 5, 6 + lost, 7 + lost)
    assert ear.gaps == [(lost, 0)]


def test_a_restart() -> None:
    """A counter that goes back, or stays."""
    for numbers in ((5, 0, 1), (5, 5, 6), (5, 4, 5)):
        ear = Ear()
        take(ear, *numbers)
        assert ear.gaps == [(0, 1)]
        assert ear.rings == 3


def test_the_counter_runs_over() -> None:
    ear = Ear()
    take(ear, 2**32 - 2, 2**32 - 1, 0, 1)
    assert ear.gaps == []


def test_each_topic_at_each_address_has_a_counter() -> None:
    ear = Ear()
    for number in range(3):
        take(ear, number)
        take(ear, 40 + number, topic=b"sequence", body=BLOCK + b"C")
        take(ear, 80 + number, address="b")
    assert ear.gaps == []
    assert ear.rings == 9


@pytest.mark.parametrize(
    ("label", "rings"), [(b"C", 1), (b"D", 1), (b"A" + bytes(8), 0), (b"R" + bytes(8), 0), (b"", 0)]
)
def test_what_rings(label: bytes, rings: int) -> None:
    """Blocks, not transactions."""
    ear = Ear()
    take(ear, 5, topic=b"sequence", body=BLOCK + label)
    assert ear.rings == rings


def test_a_doubt_rings_too() -> None:
    """Among the messages lost may have been a block's."""
    for numbers in ((5, 7), (5, 0)):
        ear = Ear()
        take(ear, *numbers, topic=b"sequence", body=BLOCK + b"A" + bytes(8))
        assert ear.rings == 1


@pytest.mark.parametrize("body", [b"", b"C", BLOCK[:31], bytes(1000), b"\xff" * 33])
def test_bodies_that_are_none(body: bytes) -> None:
    """Rings or not, but counts them."""
    ear = Ear()
    take(ear, 1, 2, topic=b"sequence", body=body)
    take(ear, 3, 5, topic=b"sequence", body=body)
    assert ear.gaps == [(1, 0)]


# Over a socket


async def test_parts_that_are_malformed() -> None:
    """Too few, too many, counters of another length: passed over, and the next good message is heard."""
    ear = Ear()
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with publisher(address) as socket:
        async with hearing(ear, address):
            for parts in (
                [b"hashblock"], [b"hashblock", BLOCK], [b"hashblock", BLOCK, b""], [b"hashblock", BLOCK, b"\1\2\3"],
                [b"hashblock", BLOCK, bytes(5)], [b"hashblock", BLOCK, counter(0), b"more"], [b"hashblockish"],
                [b"sequence", b"", b""], [b"sequence" + bytes(100), bytes(100_000), bytes(100)],
                [b"rawtx", bytes(500_000), counter(3)],
            ):  # fmt: skip
                socket.send_multipart(parts)
            assert await ear.quiet() == 0
            socket.send_multipart([b"hashblock", BLOCK, counter(7)])
            await ear.ringing()
    assert ear.gaps == []


async def test_blocks_of_a_node(node: TestNode) -> None:
    """Each block rings; transactions don't."""
    ear = Ear()
    async with hearing(ear, node.zmq_address):
        for n in range(3):
            before = ear.rings
            node.mine(1)
            await ear.ringing(before + 1)
            await ear.quiet()
            node.send(3 + n)
        assert await ear.quiet() == 0
    assert ear.gaps == []


async def test_a_reorg_rings(node: TestNode) -> None:
    ear = Ear()
    async with hearing(ear, node.zmq_address):
        node.side_branch(node.rpc("getblockhash", MATURE - 3), 3)
        assert await ear.quiet() == 0, "it has not won yet"
        node.side_branch(node.rpc("getblockhash", MATURE - 3), 4)
        await ear.ringing()
        await ear.quiet()
        before = ear.rings
        node.invalidate(node.rpc("getbestblockhash"))
        await ear.ringing(before + 1)
    assert ear.gaps == []


async def test_a_late_subscriber_of_a_node(node: TestNode) -> None:
    """After many messages: no loss is told, and the next block rings."""
    node.mine(5)
    ear = Ear()
    async with hearing(ear, node.zmq_address):
        node.mine(2)
        await ear.ringing(2)
    assert ear.gaps == []


async def test_a_restart_of_a_node(node: TestNode) -> None:
    """The socket finds it again; its counters begin anew, which rings and is told once for each topic at most."""
    ear = Ear()
    async with hearing(ear, node.zmq_address):
        node.mine(4)
        await ear.ringing(4)
        await ear.quiet()
        for end in (node.stop, node.kill):
            heard = ear.rings
            end()
            node.start()
            await mined_until(ear, node, heard + 1)
            await ear.quiet()
    assert 1 <= sum(restarts for _, restarts in ear.gaps) <= 4
    assert all(lost == 0 or restarts == 0 for lost, restarts in ear.gaps)


async def mined_until(ear: Ear, node: TestNode, least: int) -> None:
    """Mine until it rings: the subscriber may not have reconnected yet."""
    async with asyncio.timeout(HUNG):
        while ear.rings < least:
            node.mine(1)
            with suppress(TimeoutError):
                await asyncio.wait_for(ear.ringing(least), QUIET)


async def test_messages_a_double_loses(double: NodeDouble) -> None:
    """The next that is heard rings, and tells how many."""
    ear = Ear()
    async with hearing(ear, double.zmq_address):
        double.mine(1)
        await ear.ringing()
        await ear.quiet()
        double.silence_zmq = True
        double.mine(3)
        double.silence_zmq = False
        before = ear.rings
        double.mine(1)
        await ear.ringing(before + 2)
    assert sorted(ear.gaps) == [(3, 0), (3, 0)], "three of `hashblock` and three of `sequence`"


async def test_nobody_at_the_address() -> None:
    """Waits; whoever binds it later is heard."""
    ear = Ear()
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    async with hearing(ear, address):
        with publisher(address) as socket:
            async with asyncio.timeout(HUNG):
                while not ear.rings:
                    socket.send_multipart([b"hashblock", BLOCK, counter(1)])
                    await asyncio.sleep(0.02)


async def test_an_ipv6_address() -> None:
    """A node on [::1]."""
    ear = Ear()
    address = f"tcp://[::1]:{free_ports(1)[0]}"
    try:
        with publisher(address) as socket:
            async with hearing(ear, address), asyncio.timeout(HUNG):
                while not ear.rings:
                    socket.send_multipart([b"hashblock", BLOCK, counter(1)])
                    await asyncio.sleep(0.02)
    except zmq.ZMQError:
        pytest.skip("no IPv6 here")


# Where


def test_where_a_node_announces(kind: str, make_node: MakeNode) -> None:
    """As it says itself; nowhere with ZMQ off."""
    node = make_node(kind)
    with closing(source_of(node)) as source:
        assert source.announced_at() == {node.zmq_address}
        node.stop()
        with pytest.raises(NodeUnavailable):
            source.announced_at()
        node.start(zmq=False)
        assert source.announced_at() == set()


def notified(double: NodeDouble, told: Any) -> set[str]:
    with Relay(double.url) as relay, closing(source_of(double, relay)) as source:
        relay.results["getzmqnotifications"] = lambda *_: told
        return addresses(source.rpc, "node.example")


def test_topics_that_tell_of_blocks(double: NodeDouble) -> None:
    """Only those two; each address once; a node without ZMQ has none."""
    told = [
        {"type": "pubhashblock", "address": "tcp://127.0.0.1:1", "hwm": 1000},
        {"type": "pubsequence", "address": "tcp://127.0.0.1:1", "hwm": 1000},
        {"type": "pubsequence", "address": "tcp://127.0.0.1:2"},
        {"type": "pubrawtx", "address": "tcp://127.0.0.1:3"},
        {"type": "pubhashtx", "address": "tcp://127.0.0.1:4"},
        {"type": "pubrawblock", "address": "tcp://127.0.0.1:5"},
    ]
    assert notified(double, told) == {"tcp://127.0.0.1:1", "tcp://127.0.0.1:2"}
    assert notified(double, []) == set()
    assert notified(double, Refusal(-32601, "Method not found")) == set()


@pytest.mark.parametrize(
    ("bound", "host", "reached"),
    [
        ("tcp://0.0.0.0:28332", "10.0.0.7", "tcp://10.0.0.7:28332"),
        ("tcp://0.0.0.0:28332", "node.example", "tcp://node.example:28332"),
        ("tcp://*:28332", "10.0.0.7", "tcp://10.0.0.7:28332"),
        ("tcp://[::]:28332", "10.0.0.7", "tcp://10.0.0.7:28332"),
        ("tcp://[::]:28332", "::1", "tcp://[::1]:28332"),
        ("tcp://[::]:28332", "[::1]", "tcp://[::1]:28332"),
        ("tcp://0.0.0.0:28332", "fe80::2", "tcp://[fe80::2]:28332"),
        ("tcp://127.0.0.1:28332", "10.0.0.7", "tcp://127.0.0.1:28332"),
        ("tcp://[::1]:28332", "10.0.0.7", "tcp://[::1]:28332"),
        ("tcp://192.168.1.2:28332", "10.0.0.7", "tcp://192.168.1.2:28332"),
        ("ipc:///run/bitcoin/zmq", "10.0.0.7", "ipc:///run/bitcoin/zmq"),
    ],
)
def test_an_address_bound_to_everything(bound: str, host: str, reached: str) -> None:
    """Is reached where the node is reached."""
    assert addresses(Told([{"type": "pubsequence", "address": bound}]), host) == {reached}  # type: ignore[arg-type]


class Told:
    """An Rpc that gives one result."""

    where = "here"

    def __init__(self, result: Any) -> None:
        self.result = result

    def call(self, _: str) -> Any:
        return self.result


@pytest.mark.parametrize("address", [None, 5, [], "tcp://0.0.0.0:99999999", "tcp://0.0.0.0:x", "tcp://[::", {}])
def test_addresses_that_are_none(address: Any) -> None:
    """A typed error, not an address."""
    with pytest.raises(NodeUnavailable):
        addresses(Told([{"type": "pubsequence", "address": address}]), "10.0.0.7")  # type: ignore[arg-type]


@pytest.mark.node
@pytest.mark.parametrize("bound", ["0.0.0.0", "*", "[::]"])
async def test_a_real_node_bound_to_everything(tmp_path: Path, bound: str) -> None:
    """Heard at the address its RPC is asked at."""
    if bitcoind_path() is None:
        pytest.skip(ABSENT)
    (port,) = free_ports(1)
    node = BitcoindNode(tmp_path / "node", options=(f"-zmqpubsequence=tcp://{bound}:{port}",))
    with closing(node):
        node.start(zmq=False)
        with closing(source_of(node)) as source:
            where = source.announced_at()
        assert where == {f"tcp://127.0.0.1:{port}"}
        ear = Ear()
        async with hearing(ear, *where):
            await mined_until(ear, node, 1)


# For good


@asynccontextmanager
async def kept(ear: Ear, where: Callable[[], set[str]]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(ear.announcements.keep_listening(where))
    try:
        yield task
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def sent_until(ear: Ear, socket: zmq.Socket[bytes], least: int) -> None:
    """Send blocks until so many rang."""
    async with asyncio.timeout(HUNG):
        number = 0
        while ear.rings < least:
            socket.send_multipart([b"hashblock", BLOCK, counter(number)])
            number += 1
            await asyncio.sleep(0.02)


async def test_a_node_that_announces_elsewhere_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again every so often; the old address is not listened to any more."""
    monkeypatch.setattr(announcements, "ASK_SECONDS", 0.05)
    ear = Ear()
    one, other = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    told = {one}
    with publisher(one) as first, publisher(other) as second:
        async with kept(ear, lambda: set(told)):
            await sent_until(ear, first, 1)
            told = {other}
            await sent_until(ear, second, ear.rings + 1)
            await ear.quiet()
            before = ear.rings
            for number in range(5):
                first.send_multipart([b"hashblock", BLOCK, counter(100 + number)])
            await asyncio.sleep(QUIET)
            assert ear.rings == before


async def test_a_node_that_is_down_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked until it answers."""
    monkeypatch.setattr(announcements, "ASK_SECONDS", 0.05)
    ear, asked = Ear(), 0
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"

    def where() -> set[str]:
        nonlocal asked
        asked += 1
        if asked < 2:
            raise NodeUnavailable("down")
        return {address}

    with publisher(address) as socket:
        async with kept(ear, where):
            await sent_until(ear, socket, 1)


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "nosuch://a:1", ""])
async def test_an_address_that_can_not_be_listened_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    """Told, not swallowed; and once it is another, that one is heard."""
    monkeypatch.setattr(announcements, "ASK_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    ear = Ear()
    good = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    told = {address}
    with publisher(good) as socket:
        async with kept(ear, lambda: set(told)):
            await asyncio.sleep(QUIET)
            loud = [r for r in caplog.records if r.levelno >= logging.WARNING]
            assert loud, "nobody heard of it"
            assert not [r for r in loud if r.name == "asyncio"]
            told = {good}
            await sent_until(ear, socket, 1)


async def test_no_zmq_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is asked."""
    monkeypatch.setattr(announcements, "ASK_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    ear, asked = Ear(), 0

    def nowhere() -> set[str]:
        nonlocal asked
        asked += 1
        return set()

    async with kept(ear, nowhere), asyncio.timeout(HUNG):
        while asked < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len([r for r in caplog.records if "polling alone" in r.getMessage()]) == 1
