"""Where a source begins; and blocks one after the other, asked for by height."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from helpers.esplora import EsploraDouble
from helpers.node.double import NodeDouble
from helpers.recorded import SHARED, recorded_run
from sources.files import write_blocks
from sources.node.conftest import double, make_node
from sources.test_esplora import recorded_chain
from utxoiq.chain.network import NETWORKS
from utxoiq.errors import SourceError
from utxoiq.sources.base import MEDIAN_TIME_ANCESTORS, BlockSource
from utxoiq.sources.esplora import EsploraSource
from utxoiq.sources.node.source import NodeSource
from utxoiq.sources.open import open_source

__all__ = ["double", "make_node"]
AT_ONCE = range(60, 80)


def begins_at(source: BlockSource, height: int) -> None:
    """There is a block at that height, and none below it."""
    assert source.lowest() == height
    assert source.block_at(height).height == height
    with pytest.raises(SourceError):
        source.block_at(height - 1)


def test_a_directory(tmp_path: Path, shared: Path) -> None:
    """Its first block: genesis, or the lowest of the blocks it was pruned to."""
    begins_at(open_source(shared / "runs" / "main_0-599"), 0)
    run = recorded_run("regtest_core31", NETWORKS["regtest"])
    best = [bytes(block.raw) for block in recorded_chain("regtest_core31")]
    assert len(run.blocks) >= len(best)
    begins_at(open_source(write_blocks(tmp_path / "blocks", best[150:200])), 150)


def test_a_folder(tmp_path: Path, shared: Path) -> None:
    """Its lowest block, whether the name tells its height or only its coinbase; 0 where no height is known."""
    names = sorted(path for path in (SHARED / "blocks").glob("main_0[3-4]*.blk.gz"))
    heights = sorted(int(path.name.split("_")[1]) for path in names)
    for path in names:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    begins_at(open_source(tmp_path, "main"), heights[0])
    (tmp_path / names[0].name).rename(tmp_path / "unnamed.blk.gz")
    begins_at(open_source(tmp_path, "main"), heights[0])
    early = tmp_path / "early"
    early.mkdir()
    (early / "first.blk.gz").write_bytes(next((SHARED / "blocks").glob("main_0000170*.blk.gz")).read_bytes())
    assert open_source(early, "main").lowest() == 0


def test_a_node(double: NodeDouble) -> None:
    """Genesis, or the first block it was not told to forget."""
    with closing(NodeSource(double.url, cookie_file=double.cookie_file)) as source:
        begins_at(source, 0)
        double.pruned_below = 40
        assert source.lowest() == 40
        assert source.block_at(40).height == 40


def test_an_api() -> None:
    """It has every block."""
    with EsploraDouble(recorded_chain("main_0-599")) as api, closing(EsploraSource(api.url)) as source:
        assert source.lowest() == 0


def test_a_node_is_asked_for_headers_once(double: NodeDouble) -> None:
    """The ten before the first block, and none for those that follow it; after a jump again. Their times are those of
    the chain."""
    with closing(NodeSource(double.url, cookie_file=double.cookie_file)) as source:
        times = [block.block.header.time for block in source.blocks()]

        def headers_for(heights: range) -> int:
            double.requests.clear()
            for height in heights:
                block = source.block_at(height)
                assert block.prior_times == tuple(times[height - MEDIAN_TIME_ANCESTORS : height])
            return double.requests.count(("rpc", "getblockheader"))

        assert headers_for(AT_ONCE) == MEDIAN_TIME_ANCESTORS
        assert headers_for(range(AT_ONCE.stop, AT_ONCE.stop + 5)) == 0
        assert headers_for(range(20, 22)) == MEDIAN_TIME_ANCESTORS


def test_an_api_is_asked_for_headers_once() -> None:
    """Each header of those before the first block once, and then only the one below each."""
    chain = recorded_chain("main_0-599")
    with (
        EsploraDouble(chain) as api,
        closing(EsploraSource(api.url, requests_per_second=1e9, sleep=lambda _: None)) as source,
    ):
        for height in AT_ONCE:
            block = source.block_at(height)
            prior = [int.from_bytes(one.raw[68:72], "little") for one in chain[height - MEDIAN_TIME_ANCESTORS : height]]
            assert block.prior_times == tuple(prior)
        asked = api.paths("/header$")
        assert len(asked) == len(set(asked)) == MEDIAN_TIME_ANCESTORS + len(AT_ONCE) - 1
        assert len(api.paths("/status$")) == MEDIAN_TIME_ANCESTORS
