"""SHA-256 by the x86 SHA instructions, two messages at a time, as LLVM IR. Only imported where `has_sha_ni()`.

Two lanes keep the units busy: one `sha256rnds2` takes four cycles but another can start every two. A lane's state
is eight uint32 in the order the instruction wants them, (A B E F) then (C D G H). Addresses are plain integers
(`array.ctypes.data + offset`), so that a lane may read from the block or from scratch.

Source: FIPS 180-4; Intel SHA Extensions (Gulley et al., 2013).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types as nt
from numba.core import cgutils
from numba.extending import intrinsic

INT32, INT64, VECTOR = ir.IntType(32), ir.IntType(64), ir.VectorType(ir.IntType(32), 4)

# fmt: off
ROUND_CONSTANTS = (
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
)
_H = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
# fmt: on
_A, _B, _C, _D, _E, _F, _G, _HH = _H
INITIAL = (_F, _E, _B, _A, _HH, _G, _D, _C)
"""The starting state in register order (element 0 lowest)."""


def _constant(values: Any) -> Any:
    return ir.Constant(VECTOR, [ir.Constant(INT32, v) for v in values])


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(VECTOR, [ir.Constant(INT32, i) for i in order]))


def _vector_at(builder: Any, address: Any, offset: int) -> Any:
    return builder.inttoptr(builder.add(address, ir.Constant(INT64, offset)), VECTOR.as_pointer())


def _functions(builder: Any) -> tuple[Any, Any, Any, Any]:
    def get(name: str, arity: int) -> Any:
        return cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * arity), name)

    return (
        get("llvm.x86.sha256rnds2", 3),
        get("llvm.x86.sha256msg1", 2),
        get("llvm.x86.sha256msg2", 2),
        get("llvm.bswap.v4i32", 1),
    )


def _compress(builder: Any, lanes: list[tuple[Any, Any, list[Any]]]) -> list[tuple[Any, Any]]:
    """One compression a lane, interleaved every four rounds. A lane is (ABEF, CDGH, four message vectors)."""
    rounds, schedule1, schedule2, _ = _functions(builder)
    working = [[abef, cdgh, list(message)] for abef, cdgh, message in lanes]
    for group in range(16):
        k = _constant(ROUND_CONSTANTS[4 * group : 4 * group + 4])
        for lane in working:
            abef, cdgh, w = lane
            keyed = builder.add(w[group], k)
            cdgh = builder.call(rounds, [cdgh, abef, keyed])
            abef = builder.call(rounds, [abef, cdgh, _shuffle(builder, keyed, keyed, [2, 3, 2, 3])])
            lane[0], lane[1] = abef, cdgh
            if group < 12:
                shifted = _shuffle(builder, w[group + 2], w[group + 3], [1, 2, 3, 4])
                partial = builder.add(builder.call(schedule1, [w[group], w[group + 1]]), shifted)
                w.append(builder.call(schedule2, [partial, w[group + 3]]))
    return [(builder.add(new[0], old[0]), builder.add(new[1], old[1])) for new, old in zip(working, lanes, strict=True)]


def _message(builder: Any, address: Any, vectors: int = 4) -> list[Any]:
    swap = _functions(builder)[3]
    return [builder.call(swap, [builder.load(_vector_at(builder, address, 16 * i), align=1)]) for i in range(vectors)]


def _digest_words(builder: Any, abef: Any, cdgh: Any) -> list[Any]:
    return [_shuffle(builder, abef, cdgh, [3, 2, 7, 6]), _shuffle(builder, abef, cdgh, [1, 0, 5, 4])]


def _store_digest(builder: Any, address: Any, words: list[Any]) -> None:
    swap = _functions(builder)[3]
    for i, vector in enumerate(words):
        builder.store(builder.call(swap, [vector]), _vector_at(builder, address, 16 * i), align=1)


def _initial() -> tuple[Any, Any]:
    return _constant(INITIAL[:4]), _constant(INITIAL[4:])


def _padding(bits: int) -> tuple[Any, Any]:
    """The vectors that close a message: the one with the marker bit, and the one with its length."""
    return _constant([0x80000000, 0, 0, 0]), _constant([0, 0, 0, bits])


def _hash_digests(builder: Any, digests: list[list[Any]]) -> list[list[Any]]:
    """SHA-256 of one 32-byte digest a lane, given and returned as two vectors of words."""
    marker, length = _padding(256)
    lanes = [(*_initial(), [*words, marker, length]) for words in digests]
    return [_digest_words(builder, *state) for state in _compress(builder, lanes)]


@intrinsic
def absorb2(typingctx: Any, states: Any, first: Any, second: Any, blocks: Any) -> Any:
    """Run `blocks` 64-byte blocks from address `first` through the state at `states`, and as many from `second`
    through the state 32 bytes further. States stay in registers between blocks."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        states, first, second, count = args
        slots = [_vector_at(builder, states, 16 * i) for i in range(4)]
        before = [builder.load(slot, align=4) for slot in slots]
        entry = builder.block
        body, done = builder.append_basic_block("absorb"), builder.append_basic_block("absorbed")
        any_blocks = builder.icmp_signed(">", count, ir.Constant(INT64, 0))
        builder.cbranch(any_blocks, body, done)
        builder.position_at_end(body)
        index = builder.phi(INT64)
        index.add_incoming(ir.Constant(INT64, 0), entry)
        state = [builder.phi(VECTOR) for _ in slots]
        for phi, value in zip(state, before, strict=True):
            phi.add_incoming(value, entry)
        offset = builder.shl(index, ir.Constant(INT64, 6))
        lanes = [
            (state[2 * i], state[2 * i + 1], _message(builder, builder.add(address, offset)))
            for i, address in enumerate((first, second))
        ]
        after = [vector for pair in _compress(builder, lanes) for vector in pair]
        following = builder.add(index, ir.Constant(INT64, 1))
        index.add_incoming(following, body)
        for phi, value in zip(state, after, strict=True):
            phi.add_incoming(value, body)
        for slot, value in zip(slots, after, strict=True):
            builder.store(value, slot, align=4)
        builder.cbranch(builder.icmp_signed("<", following, count), body, done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return nt.void(nt.int64, nt.int64, nt.int64, nt.int64), generate


@intrinsic
def reset(typingctx: Any, state: Any) -> Any:
    """Put the starting state at address `state`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for i, vector in enumerate(_initial()):
            builder.store(vector, _vector_at(builder, args[0], 16 * i), align=4)
        return context.get_dummy_value()

    return nt.void(nt.int64), generate


@intrinsic
def write_digest(typingctx: Any, state: Any, target: Any) -> Any:
    """Write the 32-byte digest of the lane whose state is at address `state`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        abef, cdgh = (builder.load(_vector_at(builder, args[0], 16 * i), align=4) for i in range(2))
        _store_digest(builder, args[1], _digest_words(builder, abef, cdgh))
        return context.get_dummy_value()

    return nt.void(nt.int64, nt.int64), generate


@intrinsic
def rehash2(typingctx: Any, first: Any, second: Any) -> Any:
    """Replace the 32 bytes at each address by their SHA-256."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        hashed = _hash_digests(builder, [_message(builder, address, 2) for address in args])
        for address, words in zip(args, hashed, strict=True):
            _store_digest(builder, address, words)
        return context.get_dummy_value()

    return nt.void(nt.int64, nt.int64), generate


@intrinsic
def double_hash_pair2(typingctx: Any, first: Any, second: Any, first_target: Any, second_target: Any) -> Any:
    """SHA-256 of the SHA-256 of the 64 bytes at each address: two nodes of a merkle tree."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        states = _compress(builder, [(*_initial(), _message(builder, address)) for address in args[:2]])
        marker, length = _padding(512)
        zero = _constant([0] * 4)
        states = _compress(builder, [(*state, [marker, zero, zero, length]) for state in states])
        digests = [_digest_words(builder, *state) for state in states]
        for address, words in zip(args[2:], _hash_digests(builder, digests), strict=True):
            _store_digest(builder, address, words)
        return context.get_dummy_value()

    return nt.void(nt.int64, nt.int64, nt.int64, nt.int64), generate
