"""The sixteen bits of a mark: a tag and a check, so that noise seldom reads as a tag."""

import numpy as np
from jaxtyping import Int8

BITS = 16
_POLYNOMIAL = 0b10011  # CRC-4-ITU


def to_bits(tag: int) -> Int8[np.ndarray, "16"]:
    """Twelve bits of tag and four of check, as +1 (unset) and -1 (set)."""
    word = (tag << 4) | _check(tag)
    return np.array([-1 if word >> (BITS - 1 - bit) & 1 else 1 for bit in range(BITS)], np.int8)


def from_bits(bits: Int8[np.ndarray, "16"]) -> int | None:
    """The tag, or None when the check does not fit."""
    word = 0
    for bit in bits:
        word = word << 1 | int(bit < 0)
    tag = word >> 4
    return tag if word & 15 == _check(tag) else None


def _check(tag: int) -> int:
    rest = tag << 4
    for bit in range(BITS - 1, 3, -1):
        if rest >> bit & 1:
            rest ^= _POLYNOMIAL << (bit - 4)
    return rest ^ 0b1010
