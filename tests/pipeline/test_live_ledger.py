"""`utxoiq run --ledger`: killed and restarted while a chain grows and turns, every block has its balances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.command import utxoiq
from helpers.node.interface import TestNode
from helpers.running import Running
from pipeline.simulated import query
from sources.node import conftest as nodes

kind, make_node = nodes.kind, nodes.make_node
MATURE = nodes.MATURE
SETTINGS = """
[live]
window_blocks = 5

[node]
poll_seconds = 0.2
"""


def unknown(folder: Path) -> list[dict[str, object]]:
    """Connected blocks of which the store has no balances."""
    return query(
        folder / "store.db",
        "SELECT height FROM block_state LEFT JOIN current_balances b USING (block_hash) "
        "WHERE state = 'connected' AND b.seq IS NULL",
    )


def test_the_ledger_stays_at_the_tip(kind: str, make_node: Callable[..., TestNode], tmp_path: Path) -> None:
    """It goes back to where a new store begins, follows, is killed, catches up, turns; and in the end it is what one
    built anew is. It can be asked meanwhile."""
    node = make_node(kind, blocks=MATURE)
    login = {"UTXOIQ_NODE__COOKIE_FILE": str(node.cookie_file), "UTXOIQ_NODE__URL": node.url}
    kept = tmp_path / "run" / "ledger"
    assert utxoiq("balances", "build", node.url, "--ledger", kept, "--keep-from", "1", **login).code == 0
    (tmp_path / "run" / "utxoiq.toml").write_text(SETTINGS)
    running = [Running(tmp_path / "run", "--ledger", str(kept), listen=True, **login)]

    def again() -> None:
        running[-1].kill()
        running.append(Running(tmp_path / "run", "--ledger", str(kept), listen=True, **login))

    try:
        running[-1].until(running[-1].is_ready)
        for spends in (2, 0, 3):
            (name,) = node.mine(1, spends=spends)
            running[-1].at(name)
            again()
        asked = utxoiq("balances", "top", "--ledger", kept, "--json")
        assert asked.code == 0
        assert asked.rows
        fork = node.rpc("getblockhash", MATURE + 1)
        node.side_branch(fork, 4, spends=2)
        running[-1].at(node.rpc("getbestblockhash"))
        (name,) = node.mine(1, spends=2)
        running[-1].at(name)
        running[-1].until(lambda: running[-1].metric("utxoiq_balances_height") == MATURE + 6)
        status = (running[-1].ready() or (0, {}))[1]["balances"]
        assert status == {"height": MATURE + 6, "block_hash": name, "reason": None}
        assert running[-1].terminate() == 0
    finally:
        running[-1].kill()
    assert unknown(tmp_path / "run") == []
    fresh = tmp_path / "fresh"
    assert utxoiq("balances", "build", node.url, "--ledger", fresh, "--keep-from", "1", **login).code == 0
    for words in (["check"], ["top", "--count", "30"]):
        first, second = (utxoiq("balances", *words, "--ledger", one, "--json").rows for one in (kept, fresh))
        assert first == second
