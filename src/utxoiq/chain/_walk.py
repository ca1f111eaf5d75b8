"""One walk over a block's bytes, to columns. Every read is checked against the end before it is made.

Errors come back as a negative code, with the position in `info[0]`; `REASONS` has the words.
"""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I64, U8, U32, U64, helper, kernel
from utxoiq.chain._llvm import load8, load16, load32, load64, load64_signed
from utxoiq.chain._script import classify, script_key
from utxoiq.units import MAX_MONEY

TRUNCATED, NOT_CANONICAL, COUNT, FLAG, LEFTOVER, MONEY, NO_INPUTS, NO_OUTPUTS = range(-1, -9, -1)
SUPERFLUOUS, NO_COINBASE, NULL_PREVOUT, NO_TRANSACTIONS, HEIGHT, SCRIPT_SIZE, CAPACITY = range(-9, -16, -1)
TX_COUNT, INPUT_COUNT, COINBASE_SPENDS = range(-16, -19, -1)

REASONS = {
    TRUNCATED: "ends in the middle",
    NOT_CANONICAL: "a length that is not written in its shortest form, or is beyond 32 MiB",
    COUNT: "a count larger than the bytes left could hold",
    FLAG: "an unknown transaction flag",
    LEFTOVER: "leftover bytes",
    MONEY: "an amount outside 0 to 21 million BTC",
    NO_INPUTS: "a transaction without inputs",
    NO_OUTPUTS: "a transaction without outputs",
    SUPERFLUOUS: "a witness record without any witness",
    NO_COINBASE: "the first transaction is not a coinbase",
    NULL_PREVOUT: "a coinbase input outside the first transaction",
    NO_TRANSACTIONS: "a block without transactions",
    HEIGHT: "a coin height outside 0 to 2,147,483,647",
    SCRIPT_SIZE: "a spendable script longer than 10,000 bytes",
    CAPACITY: "more than the space set aside for it",
    TX_COUNT: "another number of transactions than the block has",
    INPUT_COUNT: "another number of inputs than the transaction has",
    COINBASE_SPENDS: "spent outputs for the coinbase",
}


@helper
def compact_size_long(buf, p, n, head):
    if head == 253:
        if n - p < 3:
            return 0, TRUNCATED
        value = load16(buf, p + 1)
        if value < 253:
            return 0, NOT_CANONICAL
        return value, p + 3
    if head == 254:
        if n - p < 5:
            return 0, TRUNCATED
        value = load32(buf, p + 1)
        if value < 0x10000 or value > 0x2000000:
            return 0, NOT_CANONICAL
        return value, p + 5
    return 0, NOT_CANONICAL


@helper
def compact_size(buf, p, n):
    """CompactSize at p: (value, next position or an error code)."""
    if p >= n:
        return 0, TRUNCATED
    head = load8(buf, p)
    if head < 253:
        return head, p + 1
    return compact_size_long(buf, p, n, head)


@helper
def is_null_outpoint(buf, p):
    if load32(buf, p + 32) != 0xFFFFFFFF:
        return False
    return load64(buf, p) | load64(buf, p + 8) | load64(buf, p + 16) | load64(buf, p + 24) == 0


@kernel(
    nt.int64(BYTES, nt.int64, U32, U32, U32, U32, U8, U32, U32, I64, U32, I64, U32, U32, U8, U64, I64)
)  # fmt: skip
def walk_block(
    buf, start, tx_offset, tx_size, tx_stripped_size, tx_witness_offset, tx_has_witness, tx_first_in, tx_first_out,
    tx_value_out, in_offset, out_value, out_offset, out_length, out_type, out_key, info,
):  # fmt: skip
    """Fill the columns from buf[start:], which must be the transactions of a block and nothing else.

    `tx_first_in` and `tx_first_out` get one entry more than there are transactions. Returns the number of
    transactions, or an error code with its position in info[0]; info[1], info[2] are the inputs and outputs.
    """
    n = buf.shape[0]
    info[0] = start
    count, p = compact_size(buf, start, n)
    if p < 0:
        return p
    if count == 0:
        return NO_TRANSACTIONS
    if count > (n - p) // 60:
        return COUNT
    if count + 1 > tx_first_in.shape[0]:
        return CAPACITY
    n_in = 0
    n_out = 0
    for t in range(count):
        begin = p
        info[0] = p
        if n - p < 10:
            return TRUNCATED
        p += 4
        has_witness = 0
        if load8(buf, p) == 0:
            if load8(buf, p + 1) == 0:
                return NO_INPUTS
            if load8(buf, p + 1) != 1:
                return FLAG
            has_witness = 1
            p += 2
        inputs, p = compact_size(buf, p, n)
        if p < 0:
            return p
        if inputs == 0:
            return NO_INPUTS
        if inputs > (n - p) // 41:
            return COUNT
        if n_in + inputs > in_offset.shape[0]:
            return CAPACITY
        if t == 0 and inputs != 1:
            return NO_COINBASE
        tx_first_in[t] = n_in
        for _ in range(inputs):
            info[0] = p
            if n - p < 41:
                return TRUNCATED
            if is_null_outpoint(buf, p) != (t == 0):
                return NULL_PREVOUT if t else NO_COINBASE
            in_offset[n_in] = p
            n_in += 1
            size, p = compact_size(buf, p + 36, n)
            if p < 0:
                return p
            if size + 4 > n - p:
                return TRUNCATED
            p += size + 4
        info[0] = p
        outputs, p = compact_size(buf, p, n)
        if p < 0:
            return p
        if outputs == 0:
            return NO_OUTPUTS
        if outputs > (n - p) // 9:
            return COUNT
        if n_out + outputs > out_value.shape[0]:
            return CAPACITY
        tx_first_out[t] = n_out
        total = 0
        for _ in range(outputs):
            info[0] = p
            if n - p < 9:
                return TRUNCATED
            value = load64_signed(buf, p)
            size, p = compact_size(buf, p + 8, n)
            if p < 0:
                return p
            if size > n - p:
                return TRUNCATED
            if value < 0 or value > MAX_MONEY or total + value > MAX_MONEY:
                return MONEY
            total += value
            out_value[n_out] = value
            out_offset[n_out] = p
            out_length[n_out] = size
            out_type[n_out] = classify(buf, p, size)
            out_key[n_out] = script_key(buf, p, size)
            n_out += 1
            p += size
        witness = p
        if has_witness:
            items = 0
            for _ in range(inputs):
                info[0] = p
                stack, p = compact_size(buf, p, n)
                if p < 0:
                    return p
                items += stack
                for _ in range(stack):
                    size, p = compact_size(buf, p, n)
                    if p < 0:
                        return p
                    if size > n - p:
                        return TRUNCATED
                    p += size
            if items == 0:
                return SUPERFLUOUS
        info[0] = p
        if n - p < 4:
            return TRUNCATED
        witness_size = p - witness
        p += 4
        tx_offset[t] = begin
        tx_size[t] = p - begin
        tx_witness_offset[t] = witness
        tx_has_witness[t] = has_witness
        tx_stripped_size[t] = p - begin - witness_size - 2 * has_witness
        tx_value_out[t] = total
    info[0] = p
    if p != n:
        return LEFTOVER
    tx_first_in[count] = n_in
    tx_first_out[count] = n_out
    info[1] = n_in
    info[2] = n_out
    return count


@kernel(nt.void(BYTES, U32, U32, nt.int64, U64))
def script_keys(buf, offsets, lengths, count, keys):
    """keys[i] of the script at offsets[i]; the caller vouches for the bounds."""
    for i in range(count):
        keys[i] = script_key(buf, np.int64(offsets[i]), np.int64(lengths[i]))
