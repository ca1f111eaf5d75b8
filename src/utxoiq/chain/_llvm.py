"""LLVM intrinsics for kernels: unaligned little-endian loads, big-endian stores, copies, prefetch, wide multiply.

Loads are zero-extended to int64, since Numba turns a mix of int64 and uint64 into float64. None of them checks
bounds: that is the caller's duty, before each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types as nt
from numba.core import cgutils
from numba.extending import intrinsic

BYTE, WORD = ir.IntType(8), ir.IntType(64)


def element(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, kind: Any) -> Any:
    """A pointer of LLVM type `kind` to byte `offset` of a NumPy array."""
    data = builder.bitcast(context.make_array(array_type)(context, builder, array).data, BYTE.as_pointer())
    return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())


def _load(bits: int, result: Any) -> Callable[..., Any]:
    @intrinsic
    def load(typingctx: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = element(context, builder, signature.args[0], args[0], args[1], ir.IntType(bits))
            value = builder.load(pointer, align=1)
            return value if bits == 64 else builder.zext(value, WORD)

        return result(array, nt.int64), generate

    return load


load8 = _load(8, nt.int64)
load16 = _load(16, nt.int64)
load32 = _load(32, nt.int64)
load64 = _load(64, nt.uint64)
load64_signed = _load(64, nt.int64)


@intrinsic
def store64_big_endian(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write `value` as eight big-endian bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = element(context, builder, signature.args[0], args[0], args[1], WORD)
        builder.store(builder.bswap(args[2]), pointer, align=1)
        return context.get_dummy_value()

    return nt.void(array, nt.int64, nt.uint64), generate


@intrinsic
def copy(typingctx: Any, target: Any, target_offset: Any, source: Any, source_offset: Any, count: Any) -> Any:
    """memcpy of `count` bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = element(context, builder, signature.args[0], args[0], args[1], BYTE)
        origin = element(context, builder, signature.args[2], args[2], args[3], BYTE)
        cgutils.raw_memcpy(builder, to, origin, args[4], 1, align=1)
        return context.get_dummy_value()

    return nt.void(target, nt.int64, source, nt.int64, nt.int64), generate


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of byte `offset`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = element(context, builder, signature.args[0], args[0], args[1], BYTE)
        kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer()] + [ir.IntType(32)] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer] + [ir.Constant(ir.IntType(32), n) for n in (0, 3, 1)])
        return context.get_dummy_value()

    return nt.void(array, nt.int64), generate


@intrinsic
def fold_multiply(typingctx: Any, a: Any, b: Any) -> Any:
    """High half xor low half of the 128-bit product: the mixer of wyhash."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), WORD)
        return builder.xor(builder.trunc(product, WORD), high)

    return nt.uint64(nt.uint64, nt.uint64), generate
