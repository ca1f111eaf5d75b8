"""Facts of one block: pure over (network, height, prior header times, block, spent outputs, labels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utxoiq.chain.address import address_of
from utxoiq.chain.header import SIZE as HEADER_SIZE
from utxoiq.chain.links import check_rows, check_spent, in_block_spends
from utxoiq.chain.serialize import compact_size
from utxoiq.entities.pools import attribute
from utxoiq.errors import DecodeError
from utxoiq.facts.coins import coin_age, large_coins, large_transfers, type_sums
from utxoiq.facts.fees import by_weight, compute_fees, compute_packages, compute_sizes, fee_stats, truncated_median
from utxoiq.models import BlockFacts

if TYPE_CHECKING:
    from utxoiq.chain.block import Block, Spent
    from utxoiq.entities.labels import LabelSet
    from utxoiq.facts.fees import Fees, Sizes
    from utxoiq.models import BlockData

# Two early coinbases repeat older ones and add nothing to the UTXO set (Core's IsBIP30Repeat)
BIP30_REPEATS = {
    (91842, "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec"),
    (91880, "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721"),
}
MOST_PAYOUTS = 10

UNKNOWN_WITHOUT_SPENT: dict[str, Any] = dict.fromkeys(
    (
        "totalfee", "avgfee", "medianfee", "minfee", "maxfee", "avgfeerate", "minfeerate", "maxfeerate",
        "feerate_percentiles", "feerate_percentiles_kvb", "package_feerate_p5_kvb", "package_feerate_percentiles_kvb",
        "packages", "top_fee",
        "coin_blocks_destroyed", "coin_days_destroyed", "oldest_coin", "large_coins", "large_transfers",
        "coinbase_unclaimed",
    )
)  # fmt: skip


def compute_facts(data: BlockData, labels: LabelSet) -> BlockFacts:
    """All facts of a block; what its source did not know stays None.

    Raises DecodeError where the spent outputs do not fit the block, or it claims more than subsidy and fees.
    """
    block = data.block
    if data.spent is not None:
        check_rows(block, data.spent)
    header = block.header
    values: dict[str, Any] = {
        "blockhash": str(block.block_hash),
        "height": data.height,
        "time": header.time,
        "mediantime": _median_time(data),
        "subsidy": None if data.height is None else block.network.subsidy(data.height),
        "network": block.network.name,
        "previousblockhash": str(header.prev_hash),
        "merkleroot": header.merkle_root[::-1].hex(),
        "version": header.version,
        "bits": f"{header.bits:08x}",
        "labels_version": labels.version,
        "simulated": block.network.simulated,
    }
    sizes = compute_sizes(block)
    values |= _size_facts(block, sizes) | _coinbase_facts(block, labels) | _utxo_facts(data)
    if data.spent is None:
        values |= UNKNOWN_WITHOUT_SPENT
    else:
        values |= _spent_facts(data, data.spent, sizes, values["subsidy"])
    return BlockFacts(**values)


def _median_time(data: BlockData) -> int | None:
    """Median time past of the block itself (Core's GetMedianTimePast), None where an ancestor is unknown."""
    if data.prior_times is None:
        return None
    times = sorted((*data.prior_times, data.block.header.time))
    return times[len(times) // 2]


def _size_facts(block: Block, sizes: Sizes) -> dict[str, Any]:
    """Counts and sizes. Like Core's, all but `txs`, `outs`, `size` and `weight` leave the coinbase out."""
    payments = block.n_tx - 1
    head = HEADER_SIZE + len(compact_size(block.n_tx))
    return {
        "txs": block.n_tx,
        "ins": len(block.input_offset) - 1,
        "outs": len(block.outputs.value),
        "total_out": int(block.tx.value_out[1:].sum()),
        "total_size": sizes.total_size,
        "total_weight": sizes.total_weight,
        "swtxs": sizes.swtxs,
        "swtotal_size": sizes.swtotal_size,
        "swtotal_weight": sizes.swtotal_weight,
        "avgtxsize": sizes.total_size // payments if payments else 0,
        "mediantxsize": truncated_median(block.tx.size[1:]),
        "mintxsize": sizes.mintxsize,
        "maxtxsize": sizes.maxtxsize,
        "size": len(block.raw),
        "weight": 4 * head + sizes.coinbase_weight + sizes.total_weight,
    }


def _coinbase_facts(block: Block, labels: LabelSet) -> dict[str, Any]:
    coinbase, network = block.coinbase, block.network
    attribution = attribute(coinbase, labels)
    return {
        "coinbase_value": coinbase.value_out,
        "coinbase_tag": coinbase.tag,
        "coinbase_payouts": [
            [address_of(script, network) or script.hex(), value] for value, script in coinbase.payouts[:MOST_PAYOUTS]
        ],
        "pool": attribution.pool.id if attribution else None,
        "pool_name": attribution.pool.name if attribution else None,
        "pool_by": attribution.by if attribution else None,
    }


def _utxo_facts(data: BlockData) -> dict[str, Any]:
    """Outputs by type, and what the block adds to the UTXO set, without and with regard to unspendable outputs."""
    block, spent = data.block, data.spent
    n_out, n_in = len(block.outputs.value), len(block.input_offset) - 1
    output_types, made = type_sums(block.outputs, 0, n_out)
    facts: dict[str, Any] = {
        "output_types": output_types,
        "utxo_increase": n_out - n_in,
        "utxo_increase_actual": None,
        "utxo_size_inc": None,
        "utxo_size_inc_actual": None,
        "spent_types": None,
    }
    lost = _outputs_never_in_the_set(data)
    if lost is not None:
        facts["utxo_increase_actual"] = made[2] - lost[1] - n_in
    if spent is not None:
        facts["spent_types"], gone = type_sums(spent.outputs, 1, n_in + 1)
        facts["utxo_size_inc"] = made[0] - gone[0]
        if lost is not None:
            facts["utxo_size_inc_actual"] = made[1] - gone[0] - lost[0]
    return facts


def _outputs_never_in_the_set(data: BlockData) -> tuple[int, int] | None:
    """(bytes, number) of spendable outputs that never enter the UTXO set: genesis, and coinbases that repeat one.

    None where the height is unknown and could be one of these.
    """
    if data.height is None:
        return None
    if data.height != 0 and (data.height, str(data.block_hash)) not in BIP30_REPEATS:
        return 0, 0
    _, sums = type_sums(data.block.outputs, 0, int(data.block.tx.first_output[1]))
    return sums[1], sums[2]


def _spent_facts(data: BlockData, spent: Spent, sizes: Sizes, subsidy: int | None) -> dict[str, Any]:
    block = data.block
    inside = in_block_spends(block)
    check_spent(block, spent, inside)
    fees = compute_fees(block, spent, sizes)
    alone = by_weight(fees.feerate_kvb, sizes)
    stats = fee_stats(fees, sizes, alone)
    package_percentiles, packages = compute_packages(block, fees, sizes, inside, alone)
    unclaimed = None if subsidy is None else subsidy + fees.total - block.coinbase.value_out
    if unclaimed is not None and unclaimed < 0:
        raise DecodeError("block", f"its coinbase claims {-unclaimed} sat more than subsidy and fees")
    return {
        **stats,
        "package_feerate_p5_kvb": package_percentiles[0],
        "package_feerate_percentiles_kvb": package_percentiles[1:],
        "packages": packages,
        "top_fee": _top_fee(block, fees),
        "coinbase_unclaimed": unclaimed,
        **coin_age(block, spent, data.height),
        "large_coins": large_coins(block, spent, data.height),
        "large_transfers": large_transfers(block, spent, fees),
    }


def _top_fee(block: Block, fees: Fees) -> dict[str, Any] | None:
    if fees.total == 0:
        return None
    t = fees.top
    return {"txid": str(block.txid(t)), "fee": fees.maxfee, "feerate_kvb": int(fees.feerate_kvb[t])}
