"""The 80-byte block header. Plain Python, so that chains can be followed without a kernel."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.errors import DecodeError

SIZE = 80


@dataclass(frozen=True, slots=True)
class Header:
    """A block header. `time` is Unix seconds UTC as the miner claims it; `block_hash` is computed from the bytes."""

    version: int
    prev_hash: Hash256
    merkle_root: bytes
    time: int
    bits: int
    nonce: int
    block_hash: Hash256

    @property
    def target(self) -> int:
        """The number the block hash must not exceed (Core's arith_uint256::SetCompact). 0 where `bits` is malformed."""
        exponent, mantissa = self.bits >> 24, self.bits & 0x7FFFFF
        if self.bits & 0x800000 or exponent > 34 or (exponent > 32 and mantissa >> 8 * (35 - exponent)):
            return 0
        return mantissa >> (8 * (3 - exponent)) if exponent <= 3 else mantissa << (8 * (exponent - 3))

    @property
    def work(self) -> int:
        """Expected number of hashes to find this block (Core's GetBlockProof)."""
        target = self.target
        return 0 if target <= 0 else (1 << 256) // (target + 1)


def read_header(raw: bytes, pow_limit: int | None = None) -> Header:
    """The header of a block. Raises DecodeError when it is short or its hash does not meet its own target,
    or when that target is easier than `pow_limit` allows."""
    if len(raw) < SIZE:
        raise DecodeError("block", f"a header has 80 bytes, this has {len(raw)}", len(raw))
    version, prev, root, time, bits, nonce = struct.unpack_from("<i32s32sIII", raw)
    block_hash = Hash256(double_sha256(bytes(raw[:SIZE])))
    header = Header(version, Hash256(prev), root, time, bits, nonce, block_hash)
    target = header.target
    if not target > 0 or (pow_limit is not None and target > pow_limit):
        raise DecodeError("block", f"a target this network does not allow (bits {bits:08x})", 72)
    if int.from_bytes(block_hash, "little") > target:
        raise DecodeError("block", f"hash {block_hash} does not meet its own target: no proof of work")
    return header
