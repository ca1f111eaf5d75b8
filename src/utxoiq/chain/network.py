"""The networks, and what differs between them (Core, kernel/chainparams.cpp)."""

from __future__ import annotations

from dataclasses import dataclass

from utxoiq.chain.hashes import Hash256
from utxoiq.errors import ConfigError
from utxoiq.units import COIN


@dataclass(frozen=True, slots=True)
class Network:
    """One chain's constants. `magic` frames its blocks on disk; `simulated` is never true of real money."""

    name: str
    magic: bytes
    genesis: Hash256 | None
    pow_limit: int
    halving_interval: int
    bip34_height: int
    segwit_height: int
    p2pkh_prefix: int
    p2sh_prefix: int
    bech32_prefix: str
    simulated: bool = False

    def subsidy(self, height: int) -> int:
        """Newly created satoshis at `height` (Core's GetBlockSubsidy)."""
        halvings = height // self.halving_interval
        return 0 if halvings >= 64 else (50 * COIN) >> halvings


MAIN_LIMIT = 0xFFFF << 208
EASY_LIMIT = 0x7FFFFF << 232


def _genesis(display: str) -> Hash256:
    return Hash256.from_display(display)


# fmt: off
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("main", bytes.fromhex("f9beb4d9"), _genesis("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"), MAIN_LIMIT, 210_000, 227_931, 481_824, 0, 5, "bc"),
        Network("test3", bytes.fromhex("0b110907"), _genesis("000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"), MAIN_LIMIT, 210_000, 21_111, 834_624, 111, 196, "tb"),
        Network("test4", bytes.fromhex("1c163f28"), _genesis("00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"), MAIN_LIMIT, 210_000, 1, 1, 111, 196, "tb"),
        Network("signet", bytes.fromhex("0a03cf40"), _genesis("00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"), 0x377AE << 216, 210_000, 1, 1, 111, 196, "tb"),
        Network("regtest", bytes.fromhex("fabfb5da"), _genesis("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"), EASY_LIMIT, 150, 1, 0, 111, 196, "bcrt"),
        Network("simulated", b"utxo", None, EASY_LIMIT, 210_000, 1, 0, 111, 196, "sim", simulated=True),
    )
}
# fmt: on

BY_MAGIC = {network.magic: network for network in NETWORKS.values()}


def network_named(name: str) -> Network:
    """Raises ConfigError for an unknown name."""
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}: one of {', '.join(NETWORKS)}")
    return NETWORKS[name]
