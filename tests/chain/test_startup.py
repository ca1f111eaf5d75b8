"""Start-up as a user meets it: another processor, no place for a cache, and imports that cost nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from helpers.process import python, said
from helpers.recorded import ABSENT, SHARED, block_named

NAME = "main_0757739"
DECODE = f"""
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from helpers.recorded import block_named
    from utxoiq.chain._jit import has_sha_ni
    from utxoiq.chain.block import read_rest_spent, read_undo_spent
    recorded = block_named({NAME!r})
    block = recorded.decoded()
    undo, rest = read_undo_spent(block, recorded.undo), read_rest_spent(block, recorded.spent)
print(json.dumps({{
    "hash": str(block.block_hash),
    "fees": [int((s.tx_value_in[1:] - block.tx.value_out[1:]).sum()) for s in (undo, rest)],
    "same keys": undo.outputs.key.tolist() == rest.outputs.key.tolist(),
    "sha": has_sha_ni(),
    "warnings": [[w.category.__name__, str(w.message)] for w in caught],
}}))
"""


def decode_in_a_new_process(**environment: str | None) -> CompletedProcess[str]:
    return python("-c", DECODE, NUMBA_CACHE_DIR=None, **environment)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both cold starts at the same time, each compiling all kernels."""
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    cache = tmp_path_factory.mktemp("cache")
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "XDG_CACHE_HOME": str(cache)}
    with ThreadPoolExecutor() as pool:
        other = pool.submit(decode_in_a_new_process, **generic)
        uncached = pool.submit(decode_in_a_new_process, XDG_CACHE_HOME="/dev/null/x")
        return {"generic": other.result(), "uncached": uncached.result(), "cache": cache, "environment": generic}


def decoded_right(process: CompletedProcess[str]) -> dict[str, Any]:
    """What the process found, once it is certain that it decoded the block."""
    assert process.returncode == 0, said(process)
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    row = block_named(NAME).row
    assert found["hash"] == row["hash"]
    assert found["fees"] == [int(row["fees_sat"])] * 2
    assert found["same keys"]
    return found


@pytest.mark.slow
def test_a_processor_without_sha_instructions(starts: dict[str, Any]) -> None:
    """Compiled for a generic processor nothing aborts, and hashlib does the hashing."""
    found = decoded_right(starts["generic"])
    assert found["sha"] is False
    assert found["warnings"] == []


@pytest.mark.slow
def test_compiled_kernels_are_kept(starts: dict[str, Any]) -> None:
    """The first start leaves its machine code in one folder of the cache, and the second adds nothing to it."""
    decoded_right(starts["generic"])
    cache: Path = starts["cache"]
    assert [folder.name[:15] for folder in cache.iterdir()] == ["utxoiq-kernels-"]
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert {path.suffix for path in kept} == {".nbi", ".nbc"}
    again = decoded_right(decode_in_a_new_process(**starts["environment"]))
    assert again["warnings"] == []
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == kept


@pytest.mark.slow
def test_no_place_for_a_cache(starts: dict[str, Any]) -> None:
    """Where nothing can be written everything still works, and exactly one warning says what to do."""
    found = decoded_right(starts["uncached"])
    [(category, message)] = found["warnings"]
    assert category == "RuntimeWarning"
    assert "no cache for compiled kernels" in message
    assert "NUMBA_CACHE_DIR" in message


@pytest.mark.parametrize(
    "module", ["utxoiq", "utxoiq.errors", "utxoiq.units", "utxoiq.chain.header", "utxoiq.chain.network"]
)
def test_light_modules_import_neither_numba_nor_numpy(module: str) -> None:
    """What only reads headers, networks or units starts without the kernels."""
    process = python(
        "-W", "error", "-c", f"import sys, {module}; print(sorted({{'numba', 'numpy'}} & set(sys.modules)))"
    )
    assert process.returncode == 0, said(process)
    assert process.stdout == "[]\n"
