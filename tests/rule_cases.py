"""Examples for every rule of the sheet: primitive → list of (function, arguments)."""

import rule_cases_matrices as matrices
import rule_cases_numbers as numbers
import rule_cases_real as real
from rule_cases_matrices import on_complex
from rule_cases_real import X, Y

__all__ = ["BEYOND_JAX", "CASES"]

CASES = {
    **real.CASES,
    **numbers.CASES,
    **matrices.CASES,
    **matrices.SPARSE_CASES,
    **{f"complex {name}": [(on_complex(f), X, Y)] for name, f in numbers.COMPLEX.items()},
}
BEYOND_JAX = {**numbers.BEYOND_JAX, **matrices.BEYOND_JAX}
