"""The recorded ZMQ scenarios, played on the double: the same messages, in the same order, with the same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from helpers.node.double import NodeDouble
from helpers.node.subscriber import Message, Subscriber
from helpers.node.wire import display, read_transaction
from sources.node.transcripts import PASSWORD, RECORDED, ask, at_s1, comparable, exchanges, lines, recorded_blocks

CLOCK_OF_S1 = 1767642133
RECENT = 1767640802
NOTHING = object()
"""The result of an action was not recorded."""

Row = dict[str, Any]


def scenarios() -> dict[str, list[Row]]:
    return {name: list(rows) for name, rows in groupby(lines("zmq.jsonl"), lambda row: row["scenario"])}


def messages(rows: list[Row]) -> list[Message]:
    return [Message(row["topic"], bytes.fromhex(row["body_hex"]), row["seq"]) for row in rows if "topic" in row]


def actions(rows: list[Row]) -> Iterator[tuple[Row, Any]]:
    """What was done in a scenario, and what it returned."""
    for at, row in enumerate(rows):
        if row.get("phase", "start") == "start" and "action" in row:
            later = (other for other in rows[at:] if other.get("action") == row["action"] and "result" in other)
            yield row, next(later, {"result": NOTHING})["result"]
        elif row.get("phase") == "RPC answers":
            yield row, NOTHING


class Player:
    """Plays recorded actions on a double that somebody listens to."""

    def __init__(self, double: NodeDouble, subscriber: Subscriber) -> None:
        self.double, self.subscriber = double, subscriber
        raw = (bytes.fromhex(row["body_hex"]) for row in lines("zmq.jsonl") if row.get("topic") == "rawtx")
        self.transactions = {display(read_transaction(data).txid): data.hex() for data in raw}

    def play(self, rows: list[Row]) -> list[Message]:
        """What is heard during a scenario. Each action must return what it did."""
        for row, expected in actions(rows):
            result = self._act(row, expected)
            assert expected is NOTHING or result == expected, row
        heard = self.subscriber.take(len(messages(rows)))
        return heard + self.subscriber.rest()

    def _act(self, row: Row, expected: Any) -> Any:
        rpc, result = self.double.rpc, expected
        match row["action"]:
            case "submitblock":
                result = rpc("submitblock", recorded_blocks()[row["hash"]].hex())
            case "sendrawtransaction":
                result = rpc("sendrawtransaction", self.transactions[row["txid"]], 0)
            case "submitpackage":
                result = rpc("submitpackage", [self.transactions[txid] for txid in row["txids"]])["package_msg"]
            case "setmocktime":
                rpc("setmocktime", expected)
            case "getrawmempool with sequence":
                result = rpc("getrawmempool", False, True)["mempool_sequence"]
            case "getrawmempool":
                result = len(rpc("getrawmempool"))
            case "stop":
                self.clock = self.double.state.mock_time
                self.double.stop()
            case "start":
                # as with -mocktime; the subscriber stays
                self.double.state.mock_time = self.clock
                self.double.start(password=PASSWORD)
                self.subscriber.connected()
            case method:
                result = rpc(method, *([row["hash"]] if "hash" in row else []))
        return result


def asked(double: NodeDouble, name: str) -> None:
    exchange = next(exchange for exchange in exchanges() if exchange.name == name)
    assert comparable(ask(double.url, exchange)) == comparable(exchange)


ASKED_AFTER = {
    "reorg_3_by_longer_branch": ("getchaintips_after_reorg",),
    "invalidate_tip_then_new_block": ("getchaintips_with_invalid", "getblock_invalidated"),
}
AT_THE_END = ("getchaintips_end", "getblockchaininfo_end", "stop")
"""Not `getmempoolinfo_end`: three of its four transactions were not recorded."""


def fill_the_mempool(double: NodeDouble) -> None:
    """A block and three transactions between two scenarios; of the three, which were not recorded, others stand in."""
    blocks = list(recorded_blocks())
    before = blocks.index(double.rpc("getbestblockhash"))
    double.rpc("submitblock", recorded_blocks()[blocks[before + 1]].hex())
    for pooled in json.loads((RECORDED / "state_S1.json").read_text())["mempool"][:3]:
        double.rpc("sendrawtransaction", pooled["hex"], 0)


def test_initial_block_download_and_its_end(shared: Path, tmp_path: Path) -> None:
    double = NodeDouble(tmp_path)
    double.start(password=PASSWORD)
    double.state.mock_time = RECENT
    with Subscriber(double.zmq_address) as subscriber:
        subscriber.connected()
        player = Player(double, subscriber)
        for name in ("initial_block_download", "leaving_initial_block_download"):
            rows = scenarios()[name]
            assert player.play(rows) == messages(rows)
    double.close()


def test_everything_after_s1(shared: Path, tmp_path: Path) -> None:
    """Blocks, conflicts, replacement, a package, reorgs, invalidated blocks, expiry, a restart, and what is asked."""
    double, heard, told = at_s1(tmp_path), 0, scenarios()
    late = told.pop("late_subscriber")
    with Subscriber(double.zmq_address) as subscriber:
        subscriber.connected()
        player = Player(double, subscriber)
        for name, rows in list(told.items())[2:]:
            if name == "restart":
                fill_the_mempool(double)
                subscriber.rest()
            expected = messages(rows)
            assert player.play(rows) == expected, name
            heard += len(expected)
            for exchange in ASKED_AFTER.get(name, ()):
                asked(double, exchange)
    with Subscriber(double.zmq_address, "hashblock") as subscriber:
        subscriber.connected()
        assert Player(double, subscriber).play(late) == messages(late)
    blocks = list(recorded_blocks())
    for block_hash in blocks[blocks.index(late[0]["hash"]) + 1 :]:
        assert double.rpc("submitblock", recorded_blocks()[block_hash].hex()) is None
    for exchange in AT_THE_END:
        asked(double, exchange)
    double.close()
    assert (heard, len(told)) == (233, 12)


@pytest.mark.parametrize("name", ["sequence", "hashblock"])
def test_a_topic_alone_has_its_own_numbers(double: NodeDouble, name: str) -> None:
    with Subscriber(double.zmq_address, name) as subscriber:
        subscriber.connected()
        double.mine(3)
        heard = subscriber.take(3)
    assert [message.number for message in heard] == [{"sequence": 111, "hashblock": 110}[name] + n for n in range(3)]
