"""Kernels from written addresses to scripts: base58check, bech32 (BIP 173) and bech32m (BIP 350), a microsecond each.

They accept exactly what `utxoiq.entities.words.script_of_word` accepts, which also says why what is refused is.
"""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I64, U8, U32, helper, kernel
from utxoiq.chain.address import BASE58, BECH32, BECH32_CHECK, BECH32M_CHECK, FEEDBACK
from utxoiq.entities._sha256 import compress
from utxoiq.entities.words import RAW

REFUSED = -1
QUOTE, COMMA = ord('"'), ord(",")
NOT_A_DIGIT = 255


def _digits(alphabet: str) -> np.ndarray:
    table = np.full(256, NOT_A_DIGIT, np.uint8)
    for value, character in enumerate(alphabet):
        table[ord(character)] = value
    return table


DIGITS58 = _digits(BASE58)
DIGITS32 = _digits(BECH32)
DIGITS16 = _digits("0123456789abcdef")
RAW_BYTES = np.frombuffer(RAW.encode(), np.uint8)
RAW_LENGTH = len(RAW)
STEP = np.array(FEEDBACK, np.uint32)
POWERS58 = np.array([58**n for n in range(6)], np.uint64)
LIMBS = 7
SCRATCH = 16 + 8 + LIMBS
"""uint32 of scratch: a SHA-256 block, its state, a base58 number."""


@helper
def byte_of(s, i):
    """Byte i of the 25 that end the big-endian number s[24:31]."""
    return np.uint8((s[24 + (i + 3) // 4] >> np.uint32(8 * (3 - (i + 3) % 4))) & np.uint32(255))


@helper
def checksum58(s):
    """The first four bytes of the double SHA-256 of the first 21."""
    for i in range(16):
        s[i] = 0
    for i in range(21):
        s[i >> 2] |= np.uint32(byte_of(s, i)) << np.uint32(24 - 8 * (i & 3))
    s[5] |= np.uint32(0x800000)
    s[15] = 168
    compress(s)
    for i in range(8):
        s[i] = s[16 + i]
    for i in range(8, 16):
        s[i] = 0
    s[8] = np.uint32(0x80000000)
    s[15] = 256
    compress(s)
    return s[16]


@helper
def number58(text, at, end, s):
    """The number written in text[at:end] to s[24:31], big-endian; False where it is none or takes over 25 bytes."""
    for i in range(LIMBS):
        s[24 + i] = 0
    p = at
    while p < end:
        size = min(5, end - p)
        value = np.uint64(0)
        for i in range(size):
            digit = DIGITS58[text[p + i]]
            if digit == NOT_A_DIGIT:
                return False
            value = value * np.uint64(58) + np.uint64(digit)
        for i in range(LIMBS - 1, -1, -1):
            value += np.uint64(s[24 + i]) * POWERS58[size]
            s[24 + i] = np.uint32(value & np.uint64(0xFFFFFFFF))
            value >>= np.uint64(32)
        if value != 0 or s[24] > 255:
            return False
        p += size
    return True


@helper
def script58(text, at, end, p2pkh, p2sh, blob, to, s):
    """The script of a base58check address to blob[to:]: its length, or REFUSED."""
    if end - at > 35 or not number58(text, at, end, s):
        return REFUSED
    zeros = 0
    while at + zeros < end and text[at + zeros] == 49:
        zeros += 1
    for i in range(25):
        if byte_of(s, i) != 0:
            if i != zeros:
                return REFUSED
            break
    if zeros > 24 or checksum58(s) != s[30]:
        return REFUSED
    version = np.int64(byte_of(s, 0))
    if version == p2pkh:
        blob[to] = 0x76
        blob[to + 1] = 0xA9
        start = to + 2
        blob[to + 23] = 0x88
        blob[to + 24] = 0xAC
        length = 25
    elif version == p2sh:
        blob[to] = 0xA9
        start = to + 1
        blob[to + 22] = 0x87
        length = 23
    else:
        return REFUSED
    blob[start] = 20
    for i in range(20):
        blob[start + 1 + i] = byte_of(s, 1 + i)
    return length


@helper
def lowered(character):
    return character + 32 if character >= 65 and character <= 90 else character


@helper
def is_bech32(text, at, end, prefix):
    """Whether text[at:end] begins with the prefix and 1, in any case."""
    size = prefix.shape[0]
    if end - at <= size or text[at + size] != 49:
        return False
    for i in range(size):
        if lowered(np.int64(text[at + i])) != prefix[i]:
            return False
    return True


@helper
def has_both_cases(text, at, end):
    upper = False
    lower = False
    for p in range(at, end):
        upper |= text[p] >= 65 and text[p] <= 90
        lower |= text[p] >= 97 and text[p] <= 122
    return upper and lower


@helper
def absorbed(check, value):
    return ((check & np.uint32(0x1FFFFFF)) << np.uint32(5)) ^ np.uint32(value) ^ STEP[check >> np.uint32(25)]


@helper
def script32(text, at, end, prefix, blob, to):
    """The script of a bech32 or bech32m address to blob[to:]: its length, or REFUSED."""
    first = at + prefix.shape[0] + 1
    if end - at > 90 or end - first < 8 or has_both_cases(text, at, end):
        return REFUSED
    check = np.uint32(1)
    for i in range(prefix.shape[0]):
        check = absorbed(check, prefix[i] >> 5)
    check = absorbed(check, 0)
    for i in range(prefix.shape[0]):
        check = absorbed(check, prefix[i] & 31)
    version = DIGITS32[lowered(np.int64(text[first]))]
    bits = 0
    buffer = 0
    length = 2
    for p in range(first, end):
        digit = DIGITS32[lowered(np.int64(text[p]))]
        if digit == NOT_A_DIGIT:
            return REFUSED
        check = absorbed(check, digit)
        if p > first and p < end - 6:
            buffer = ((buffer << 5) | np.int64(digit)) & 0xFFF
            bits += 5
            if bits >= 8:
                bits -= 8
                if length == 42:
                    return REFUSED
                blob[to + length] = (buffer >> bits) & 255
                length += 1
    if bits >= 5 or buffer & ((1 << bits) - 1) or length < 4 or version > 16:
        return REFUSED
    if check != (BECH32M_CHECK if version else BECH32_CHECK) or (version == 0 and length != 22 and length != 34):
        return REFUSED
    blob[to] = 0x50 + version if version else 0
    blob[to + 1] = length - 2
    return length


@helper
def next_word(text, at, end):
    """The first position from `at` that is no white space."""
    while at < end and (text[at] == 32 or (text[at] >= 9 and text[at] <= 13)):
        at += 1
    return at


@helper
def is_raw(text, start, end):
    """Whether it begins with `script:`."""
    if end - start < RAW_LENGTH:
        return False
    for i in range(RAW_LENGTH):
        if text[start + i] != RAW_BYTES[i]:
            return False
    return True


@helper
def script16(text, at, end, blob, to):
    """The bytes of pairs of small hex digits; their number, REFUSED for none or anything else."""
    if at == end or (end - at) % 2:
        return REFUSED
    for i in range(at, end):
        if DIGITS16[text[i]] == NOT_A_DIGIT:
            return REFUSED
    for i in range((end - at) // 2):
        blob[to + i] = DIGITS16[text[at + 2 * i]] * np.uint8(16) + DIGITS16[text[at + 2 * i + 1]]
    return (end - at) // 2


@kernel(nt.int64(BYTES, nt.int64, nt.int64, nt.int64, nt.int64, BYTES, U8, I64, nt.int64, U32))
def read_list(text, at, end, p2pkh, p2sh, prefix, blob, offsets, row, scratch):
    """Scripts of the addresses in text[at:end], which is the inside of a JSON list of texts, to blob[offsets[row]:].

    Fills offsets from row + 1 on. Returns the number of addresses, or -1 - p where the one at text[p] is refused.
    `blob` has room for end - at bytes, `offsets` for (end - at) // 11 + 1 more rows, `scratch` is SCRATCH long.
    """
    first = row
    p = next_word(text, at, end)
    while p < end:
        start = p + 1
        if text[p] != QUOTE:
            return -1 - p
        p = start
        while p < end and text[p] != QUOTE:
            p += 1
        to = offsets[row]
        if p == end:
            return -1 - start
        if is_raw(text, start, p):
            length = script16(text, start + RAW_LENGTH, p, blob, to)
        elif is_bech32(text, start, p, prefix):
            length = script32(text, start, p, prefix, blob, to)
        else:
            length = script58(text, start, p, p2pkh, p2sh, blob, to, scratch)
        if length < 0:
            return -1 - start
        row += 1
        offsets[row] = to + length
        p = next_word(text, p + 1, end)
        if p < end:
            if text[p] != COMMA:
                return -1 - p
            p = next_word(text, p + 1, end)
            if p == end:
                return -1 - p
    return row - first
