"""Importing costs only what is used: no kernels before a block, no processor before it is asked for."""

from __future__ import annotations

import pytest

from helpers.process import python, said

HEAVY = ("numba", "llvmlite", "numpy", "scipy")
NAMES = ("exchange", "mempool", "miner", "predictive", "treasury", "whale")
PROCESSORS = tuple(f"utxoiq.processors.{name}" for name in (*NAMES, "feerates", "_feerates"))
SHOW = "\nimport sys\nprint(*sorted(sys.modules))"


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after `code` in a new process."""
    process = python("-c", code + SHOW)
    assert process.returncode == 0, said(process)
    return set(process.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import utxoiq",
        "import utxoiq.cli",
        "import utxoiq.errors",
        "import utxoiq.models",
        "import utxoiq.persistence",
        "import utxoiq.pipeline",
        "import utxoiq.processors",
        "import utxoiq.processors.discovery",
        "from utxoiq.pipeline import PipelineOrchestrator",
        "from utxoiq.insights.generator import InsightGenerator",
    ],
)
def test_light_imports(code: str) -> None:
    """Neither Numba nor NumPy, nor any processor, the orchestrator's own import included."""
    assert modules_after(code) & {*HEAVY, *PROCESSORS} == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["scan", "--help"], ["signals", "--help"], ["entities", "list", "--json"]]
)
def test_commands_that_decode_nothing_load_no_kernel(arguments: list[str]) -> None:
    """Help, and what needs no block."""
    code = f"""
import contextlib, io, sys
sys.argv = ["utxoiq", *{arguments!r}]
from utxoiq.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()"""
    loaded = modules_after(code)
    assert "utxoiq.cli" in loaded
    assert loaded & {*HEAVY, *PROCESSORS} == set()


@pytest.mark.parametrize("name", NAMES)
def test_processors_load_one_by_one(name: str) -> None:
    """Asking for one loads that one, and what it is made with; neither NumPy nor a kernel before it sees a block."""
    loaded = modules_after(f"from utxoiq.processors import {name.title()}Processor")
    others = {"predictive": {"exchange", "mempool"}}.get(name, set())
    assert {one for one in NAMES if f"utxoiq.processors.{one}" in loaded} == {name} | others
    assert loaded & {*HEAVY, "utxoiq.processors.feerates", "utxoiq.processors._feerates"} == set()


def test_all_processors_are_made_without_a_kernel() -> None:
    """Finding them, and reading what they declare: what a command that shows signals does."""
    loaded = modules_after("from utxoiq.processors.discovery import declared_kinds; declared_kinds()")
    assert {f"utxoiq.processors.{name}" for name in NAMES} <= loaded
    assert loaded & {*HEAVY, "utxoiq.processors._feerates"} == set()
