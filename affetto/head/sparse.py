"""Sparse matrices in one plain type: scipy's own functions are vague about what they return."""

from collections.abc import Sequence
from typing import Any

from scipy import sparse


def as_csr(matrix: Any) -> sparse.csr_matrix:
    """Any sparse matrix by rows; one that is so already shares its values."""
    return sparse.csr_matrix(matrix)


def stack_rows(blocks: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    """Matrices one above the other."""
    return as_csr(sparse.vstack(blocks))


def row_count(matrix: sparse.csr_matrix) -> int:
    """How many rows a matrix has."""
    return len(matrix.indptr) - 1
