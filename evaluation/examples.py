"""`python -m evaluation examples --output DIR`: one insight of each kind a simulated economy shows, with its chart.

The texts are the template's, as a run without a key would publish them; charts are those of `utxoiq chart`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evaluation.claims import Job
from evaluation.laboratory import label_set
from utxoiq.demo import simulated_ledger
from utxoiq.persistence import open_store, reads
from utxoiq.pipeline.scan import scan
from utxoiq.simulation.economy import Economy
from utxoiq.simulation.files import write_blocks
from utxoiq.simulation.regimes import REGIMES
from utxoiq.sources.open import open_source
from utxoiq.units import utc
from utxoiq.web.charts import chart_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence import SqliteStore

JOB = Job("bursty", 1, 3000, calibrated=True)
HEAD = """# Insights, as the template writes them

One of each kind that {blocks:,} blocks of a simulated economy show ({count} kinds), all names invented. Made by
`python -m evaluation examples --output docs/examples`; charts as `utxoiq chart ID` draws them.
"""
EXAMPLE = """
## {headline}

{summary}

*{confidence_explanation}*

`{signal_type}.{kind}`, block {block_height:,}, {time}

![{headline}]({chart})
"""


def run(folder: Path) -> None:
    """Write README.md and a chart for each example. Raises UtxoiqError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="utxoiq-examples-") as work:
        economy = Economy(JOB.seed, REGIMES[JOB.regime])
        write_blocks(Path(work) / "blocks", economy.blocks(JOB.blocks))
        ledger = simulated_ledger(Path(work), economy)
        with open_store(f"sqlite:///{work}/store.db") as store:
            asyncio.run(scan(open_source(Path(work)), store, labels=label_set(JOB), ledger=ledger))
            told = [_example(store, row, folder) for row in _newest_of_each_kind(store)]
    text = HEAD.format(blocks=JOB.blocks, count=len(told)) + "".join(told)
    (folder / "README.md").write_text(text, "utf-8")


def _newest_of_each_kind(store: SqliteStore) -> Sequence[dict[str, Any]]:
    signals = {row["signal_id"]: row for row in reads.signals(store, 1 << 30)}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for insight in reads.insights(store, 1 << 30):
        signal = signals[insight["signal_id"]]
        found.setdefault((signal["signal_type"], signal["kind"]), {**signal, **insight})
    return [found[kind] for kind in sorted(found)]


def _example(store: SqliteStore, row: dict[str, Any], folder: Path) -> str:
    chart = folder / f"{row['signal_type']}-{row['kind']}.svg"
    made = chart_of(store, row["insight_id"], "svg", "light")
    if made is not None:
        chart.write_bytes(made)
    return EXAMPLE.format(**row, time=utc(row["created_at"]), chart=chart.name)
