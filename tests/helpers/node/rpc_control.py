"""The methods about the node itself."""

from __future__ import annotations

import time
from typing import Any

from helpers.node.jsontext import amount
from helpers.node.mempool import MIN_FEERATE
from helpers.node.publisher import HIGH_WATER_MARK, TOPICS
from helpers.node.rpc import method
from helpers.node.state import NodeState

VERSION = 319900


@method("getnetworkinfo")
def getnetworkinfo(state: NodeState) -> Any:
    reach = {"ipv4": True, "ipv6": True, "onion": False, "i2p": False, "cjdns": False}
    return {
        "version": VERSION,
        "subversion": "/Satoshi:31.99.0/",
        "protocolversion": 70016,
        "localservices": "0000000000000c09",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED", "P2P_V2"],
        "localrelay": True,
        "timeoffset": 0,
        "networkactive": True,
        "connections": 0,
        "connections_in": 0,
        "connections_out": 0,
        "networks": [
            {"name": name, "limited": not on, "reachable": on, "proxy": "", "proxy_randomize_credentials": False}
            for name, on in reach.items()
        ],
        "relayfee": amount(MIN_FEERATE),
        "incrementalfee": amount(MIN_FEERATE),
        "localaddresses": [],
        "warnings": state.faults.warnings,
    }


@method("getzmqnotifications")
def getzmqnotifications(state: NodeState) -> Any:
    if not state.publisher.running:
        return []
    return [{"type": f"pub{topic}", "address": state.publisher.address, "hwm": HIGH_WATER_MARK} for topic in TOPICS]


@method("getindexinfo index_name?:string")
def getindexinfo(state: NodeState, index_name: Any = None) -> Any:
    if not state.txindex or index_name not in (None, "", "txindex"):
        return {}
    return {"txindex": {"synced": True, "best_block_height": state.chainstate.tip.height}}


@method("getrpcinfo")
def getrpcinfo(state: NodeState) -> Any:
    running = [{"method": "getrpcinfo", "duration": 10}]
    return {"active_commands": running, "logpath": str(state.folder / "regtest" / "debug.log")}


@method("uptime")
def uptime(state: NodeState) -> Any:
    return int(time.time() - state.started)


@method("getconnectioncount")
def getconnectioncount(state: NodeState) -> Any:
    return 0


@method("getpeerinfo")
def getpeerinfo(state: NodeState) -> Any:
    return []


@method("setmocktime timestamp:number")
def setmocktime(state: NodeState, timestamp: Any) -> Any:
    state.mock_time = int(timestamp) or None


@method("stop wait?:number")
def stop(state: NodeState, wait: Any = None) -> Any:
    state.stopping = True
    return "Bitcoin Core stopping"
