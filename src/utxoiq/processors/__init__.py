"""What was unusual in a block: one file a signal type, seeing the facts and the past only.

Classes are loaded when first asked for, so that importing this imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from utxoiq.processors.base import ProcessingContext, ProcessorConfig, SignalProcessor

if TYPE_CHECKING:
    from utxoiq.processors.exchange import ExchangeProcessor
    from utxoiq.processors.mempool import MempoolProcessor
    from utxoiq.processors.miner import MinerProcessor
    from utxoiq.processors.predictive import PredictiveProcessor
    from utxoiq.processors.treasury import TreasuryProcessor
    from utxoiq.processors.whale import WhaleProcessor

_LAZY = {
    "ExchangeProcessor": "exchange",
    "MempoolProcessor": "mempool",
    "MinerProcessor": "miner",
    "PredictiveProcessor": "predictive",
    "TreasuryProcessor": "treasury",
    "WhaleProcessor": "whale",
}

__all__ = [
    "ExchangeProcessor",
    "MempoolProcessor",
    "MinerProcessor",
    "PredictiveProcessor",
    "ProcessingContext",
    "ProcessorConfig",
    "SignalProcessor",
    "TreasuryProcessor",
    "WhaleProcessor",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
