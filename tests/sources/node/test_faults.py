"""What the double can be made to do wrong, and that both nodes are driven alike."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from threading import Timer, active_count
from typing import Any

import httpx
import pytest

from helpers.node.double import NodeDouble
from helpers.node.interface import RpcError, TestNode
from helpers.node.rpc import METHODS, Method
from helpers.node.subscriber import Subscriber
from helpers.node.wire import read_block
from helpers.reference import Refused


@pytest.fixture
def client(double: NodeDouble) -> Iterator[httpx.Client]:
    user, secret = double.cookie_file.read_text().split(":")
    with httpx.Client(base_url=double.url, auth=(user, secret), timeout=5) as made:
        yield made


def call(client: httpx.Client, method: str, *params: Any) -> httpx.Response:
    return client.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def test_it_warms_up_for_a_while(double: NodeDouble, client: httpx.Client) -> None:
    double.warm_up(0.2, "Loading block index…")
    assert call(client, "getblockcount").json()["error"] == {"code": -28, "message": "Loading block index…"}
    answer = client.get("/rest/chaininfo.json")
    assert (answer.status_code, answer.text) == (503, "Service temporarily unavailable: Loading block index…\r\n")
    double.mine()  # the test's own calls get through
    time.sleep(0.2)
    assert call(client, "getblockcount").json()["result"] == 111


def test_an_answer_ends_in_the_middle(double: NodeDouble, client: httpx.Client) -> None:
    path = f"/rest/block/{double.rpc('getbestblockhash')}.bin"
    double.truncate_next("/rest/block/")
    assert client.get("/rest/chaininfo.json").status_code == 200
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.get(path)
    assert len(client.get(path).content) > 160


def test_an_answer_comes_late_or_never(double: NodeDouble, client: httpx.Client) -> None:
    double.hang_next(0.3, "/rest/")
    with pytest.raises(httpx.ReadTimeout):
        client.get("/rest/chaininfo.json", timeout=0.1)
    assert client.get("/rest/chaininfo.json").status_code == 200
    double.hang_next(60)
    ended = Timer(0.1, double.kill)
    ended.start()
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.get("/rest/chaininfo.json", timeout=10)
    ended.join()


def test_a_full_queue_a_missing_method_an_old_node_rest_off(double: NodeDouble, client: httpx.Client) -> None:
    double.busy = True
    assert [call(client, "uptime").text, client.get("/rest/chaininfo.json").text] == ["Work queue depth exceeded"] * 2
    double.busy = False
    double.methods_missing = {"getmempoolfeeratediagram"}
    assert call(client, "getmempoolfeeratediagram").json()["error"]["code"] == -32601
    best = double.rpc("getbestblockhash")
    assert client.get(f"/rest/spenttxouts/{best}.bin").content == b"\1\0"
    double.old_node = True
    assert client.get(f"/rest/spenttxouts/{best}.bin").status_code == 404
    assert client.get(f"/rest/block/{best}.bin").status_code == 200
    double.rest_enabled = False
    assert (client.get(f"/rest/block/{best}.bin").status_code, client.get("/rest/").content) == (404, b"")
    assert [kind for kind, _ in double.requests] == ["rpc", "rest", "rest", "rest"]
    assert double.requests[0] == ("rpc", "getmempoolfeeratediagram")


def test_another_network_and_initial_download(double: NodeDouble, client: httpx.Client) -> None:
    double.chain, double.ibd = "main", True
    info = call(client, "getblockchaininfo").json()["result"]
    assert (info["chain"], info["initialblockdownload"]) == ("main", True)
    assert client.get("/rest/chaininfo.json").json()["chain"] == "main"
    with Subscriber(double.zmq_address, "hashblock", "sequence") as subscriber:
        subscriber.connected()
        double.mine()
        assert [message.topic for message in subscriber.rest()] == ["sequence"]


def test_messages_get_lost(double: NodeDouble) -> None:
    """Silence and loss both use up numbers: a subscriber sees a gap."""
    with Subscriber(double.zmq_address, "sequence") as subscriber:
        subscriber.connected()
        before = double.state.publisher.counters["sequence"]
        double.mine()
        double.silence_zmq = True
        double.mine(2)
        double.silence_zmq = False
        double.mine()
        double.drop_zmq(4)  # hashtx, rawtx, sequence, hashblock
        double.mine(2)
        heard = [message.number - before for message in subscriber.rest()]
    assert heard == [0, 3, 5]


def test_estimates_can_be_given(double: NodeDouble, client: httpx.Client) -> None:
    double.fee_estimates = {6: (26_440, 6)}
    assert '"feerate":0.00026440,"blocks":6' in call(client, "estimatesmartfee", 6).text
    assert "errors" in call(client, "estimatesmartfee", 7).json()["result"]


def test_a_bug_of_the_double_is_no_secret(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    double = make_node("double", password="password")
    monkeypatch.setitem(METHODS, "getmempoolinfo", Method("getmempoolinfo", (), lambda state: 1 // 0))
    answer = httpx.post(double.url, auth=("test", "password"), json={"method": "getmempoolinfo"})
    assert answer.status_code == 500
    with pytest.raises(ExceptionGroup, match="the double is at fault"):
        double.close()
    double.bugs.clear()


def test_it_leaves_nothing_behind(make_node: Any) -> None:
    """No thread, no port: the same one is there for the next start."""
    threads = active_count()
    double = make_node("double", blocks=3)
    with httpx.Client() as first, httpx.Client() as second:
        for client in (first, second):
            client.get(f"{double.url}/rest/chaininfo.json")
        double.kill()
        assert active_count() == threads
        with pytest.raises(httpx.HTTPError):
            first.get(f"{double.url}/rest/chaininfo.json")
        double.start()
        assert second.get(f"{double.url}/rest/blockhashbyheight/3.json").status_code == 200
    double.rpc("stop")
    for _ in range(500):
        if active_count() == threads:
            break
        time.sleep(0.01)
    assert active_count() == threads
    assert not double.cookie_file.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(double.url.rpartition(":")[2])), timeout=1)


def test_mining_a_long_way(node: TestNode) -> None:
    """Five hundred blocks with transactions, in a few seconds, and the coins that were spent."""
    hashes = node.mine(500, spends=2)
    assert node.rpc("getblockcount") == 610
    assert node.rpc("getblockhash", 610) == hashes[-1]
    shapes = [len(tx["vin"]) for tx in node.rpc("getblock", hashes[-1], 2)["tx"][1:]]
    assert len(shapes) == 2


def test_a_fat_block(node: TestNode) -> None:
    block = node.rpc("getblock", node.fat_block(), 1)
    assert block["nTx"] == 2500
    assert 1_450_000 < block["size"] < 1_550_000


def test_a_branch_that_wins_and_a_block_that_is_taken_back(node: TestNode) -> None:
    fork, tip = node.rpc("getblockhash", 107), node.rpc("getbestblockhash")
    side = node.side_branch(fork, 4, spends=3)
    assert node.rpc("getbestblockhash") == side[-1]
    node.invalidate(side[0])
    assert node.rpc("getbestblockhash") == tip
    assert {tip["status"] for tip in node.rpc("getchaintips")} == {"active", "invalid"}


def test_the_mempool_of_both(node: TestNode) -> None:
    """Sent, spent, replaced; kept over a stop, lost by a kill; mined at last."""
    parent = node.send(5)
    child = node.send(20, spend=parent)
    assert set(node.rpc("getrawmempool")) == {parent, child}
    other = node.send(60, replace=parent)
    assert node.rpc("getrawmempool") == [other]
    node.stop()
    assert not node.cookie_file.exists()
    node.start()
    assert node.rpc("getrawmempool") == [other]
    late = node.send(3)
    node.kill()
    assert node.cookie_file.exists()
    node.start()
    assert node.rpc("getrawmempool") == [other]
    (mined,) = node.mine(mempool=True)
    assert other in node.rpc("getblock", mined)["tx"]
    with pytest.raises(RpcError) as refused:
        node.rpc("getmempoolentry", late)
    assert refused.value.code == -5


def test_both_are_asked_with_what_they_were_started_with(kind: str, make_node: Any) -> None:
    node = make_node(kind, password="password", rest=False, zmq=False)
    assert not node.cookie_file.exists()
    question = {"method": "getzmqnotifications", "params": [], "id": 1}
    assert httpx.post(node.url, auth=("test", "password"), json=question).json()["result"] == []
    assert httpx.post(node.url, auth=("test", "wrong"), json=question).status_code == 401
    assert httpx.get(f"{node.url}/rest/chaininfo.json").status_code == 404
    secrets = set()
    for _ in range(2):
        node.stop()
        node.start()
        secrets.add(node.cookie_file.read_text())
    assert len(secrets) == 2
    assert httpx.get(f"{node.url}/rest/chaininfo.json").status_code == 200


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(Refused):
        read_block(bytes(81))
