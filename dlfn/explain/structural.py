r"""What primitives compute that are not elementwise, and how cotangents go back through them: equation and rule, where
:math:`\bar y` is the cotangent of the output. The rules themselves are in :mod:`dlfn.core.rules`."""

__all__ = ["REASONS", "STRUCTURAL_FORMULAS"]

_SUM = (r"y = \sum_k x_k", r"\bar x_k = \bar y")
_MOVED = r"\bar x = \bar y \text{ moved back}"
_EXTREMUM = r"\bar x_i = \frac{[x_i = y]}{\sum_k [x_k = y]} \, \bar y"
_WINDOW_EXTREMUM = r"\bar x_i = \sum_{p \,:\, i \text{ is first in window } p} \bar y_p"

STRUCTURAL_FORMULAS: dict[str, tuple[str, str]] = {
    "dot_general": (r"y = a \, b", r"\bar a = \bar y \, b^\top, \qquad \bar b = a^\top \bar y"),
    "ragged_dot_general": (
        r"y_i = a_i \, b_{g(i)}",
        r"\bar a_i = \bar y_i \, b_{g(i)}^\top, \qquad \bar b_g = \sum_{i \,:\, g(i) = g} a_i^\top \bar y_i",
    ),
    "conv_general_dilated": (
        r"y_p = \sum_a x_{s p + d a - l} \, k_a",
        r"\bar x_q = \sum_{p, a \,:\, s p + d a - l = q} \bar y_p \, k_a^\top, \qquad "
        r"\bar k_a = \sum_p x_{s p + d a - l}^\top \, \bar y_p",
    ),
    **dict.fromkeys(
        ("bcoo_dot_general", "bcsr_dot_general"),
        (
            r"y = a \, b, \; a \text{ sparse}",
            r"\bar b = a^\top \bar y, \qquad \bar a = \bar y \, b^\top \text{ where } a \text{ has entries}",
        ),
    ),
    "reduce_sum": _SUM,
    "psum": _SUM,
    "psum_invariant": _SUM,
    "reduce_max": (r"y = \max_k x_k", _EXTREMUM),
    "reduce_min": (r"y = \min_k x_k", _EXTREMUM),
    "reduce_prod": (r"y = \prod_k x_k", r"\bar x_k = \bar y \prod_{j \ne k} x_j"),
    "cumsum": (r"y_t = \sum_{s \le t} x_s", r"\bar x_s = \sum_{t \ge s} \bar y_t"),
    "cumprod": (r"y_t = \prod_{s \le t} x_s", r"\bar x_s = \sum_{t \ge s} \bar y_t \prod_{r \le t,\, r \ne s} x_r"),
    "cumlogsumexp": (r"y_t = \ln \sum_{s \le t} e^{x_s}", r"\bar x_s = \sum_{t \ge s} \bar y_t \, e^{x_s - y_t}"),
    "cummax": (r"y_t = \max_{s \le t} x_s", r"\bar x_s = \sum_t [s \text{ is the last with } x_s = y_t] \, \bar y_t"),
    "cummin": (r"y_t = \min_{s \le t} x_s", r"\bar x_s = \sum_t [s \text{ is the last with } x_s = y_t] \, \bar y_t"),
    "reshape": (r"y = x \text{ in another shape}", _MOVED),
    "squeeze": (r"y = x \text{ without axes of length 1}", _MOVED),
    "expand_dims": (r"y = x \text{ with axes of length 1}", _MOVED),
    "transpose": (r"y = x^\top", r"\bar x = \bar y^\top"),
    "rev": (r"y_i = x_{n - i}", r"\bar x_i = \bar y_{n - i}"),
    "broadcast_in_dim": (r"y_k = x", r"\bar x = \sum_k \bar y_k"),
    "tile": (r"y_k = x", r"\bar x = \sum_k \bar y_k"),
    "pvary": (r"y_k = x", r"\bar x = \sum_k \bar y_k"),
    "all_gather": (r"y = (x_1, \dots, x_n)", r"\bar x_i = \sum_k \bar y^{(k)}_i"),
    "all_gather_invariant": (r"y = (x_1, \dots, x_n)", r"\bar x_i = \bar y_i"),
    "reduce_scatter": (r"y_i = \sum_k x^{(k)}_i", r"\bar x^{(k)} = (\bar y_1, \dots, \bar y_n)"),
    "all_to_all": (r"y^{(i)}_k = x^{(k)}_i", r"\bar x^{(k)}_i = \bar y^{(i)}_k"),
    "ppermute": (r"y^{(\pi(k))} = x^{(k)}", r"\bar x^{(k)} = \bar y^{(\pi(k))}"),
    "slice": (r"y_i = x_{l + s i}", r"\bar x_{l + s i} = \bar y_i, \text{ else } 0"),
    "dynamic_slice": (r"y_i = x_{l + i}", r"\bar x_{l + i} = \bar y_i, \text{ else } 0"),
    "dynamic_update_slice": (
        r"y = x, \; y_{l + i} = u_i",
        r"\bar u_i = \bar y_{l + i}, \qquad \bar x = \bar y, \text{ but } \bar x_{l + i} = 0",
    ),
    "pad": (
        r"y_{l + s i} = x_i, \text{ else } c",
        r"\bar x_i = \bar y_{l + s i}, \qquad \bar c = \sum_{\text{padding}} \bar y",
    ),
    "concatenate": (r"y = (x_1, \dots, x_n)", r"\bar x_i = \bar y_i"),
    "stack": (r"y = (x_1, \dots, x_n)", r"\bar x_i = \bar y_i"),
    "split": (r"(y_1, \dots, y_n) = x", r"\bar x = (\bar y_1, \dots, \bar y_n)"),
    "unstack": (r"(y_1, \dots, y_n) = x", r"\bar x = (\bar y_1, \dots, \bar y_n)"),
    "gather": (r"y_n = x_{i_n}", r"\bar x_k = \sum_{n \,:\, i_n = k} \bar y_n"),
    **dict.fromkeys(
        ("scatter-add", "scatter_add"),
        (r"y_k = x_k + \sum_{n \,:\, i_n = k} u_n", r"\bar x = \bar y, \qquad \bar u_n = \bar y_{i_n}"),
    ),
    **dict.fromkeys(
        ("scatter-sub", "scatter_sub"),
        (r"y_k = x_k - \sum_{n \,:\, i_n = k} u_n", r"\bar x = \bar y, \qquad \bar u_n = -\bar y_{i_n}"),
    ),
    "scatter-mul": (
        r"y_k = x_k \prod_{n \,:\, i_n = k} u_n",
        r"\bar x_k = \bar y_k \prod_{n \,:\, i_n = k} u_n, \qquad "
        r"\bar u_n = \bar y_{i_n} x_{i_n} \prod_{m \ne n,\, i_m = i_n} u_m",
    ),
    **{
        f"scatter-{name}": (
            rf"y_k = \{name}(x_k, u_n \text{{ with }} i_n = k)",
            r"\bar y_k \text{ is shared equally by those that equal } y_k",
        )
        for name in ("min", "max")
    },
    "scatter": (
        r"y = x, \; y_{i_n} = u_n",
        r"\bar u_n = \bar y_{i_n} \text{ where } u_n \text{ stands in } y, \qquad "
        r"\bar x_k = \bar y_k \text{ where } x_k \text{ does}",
    ),
    "sort": (r"y_i = x_{\pi(i)}, \; y_1 \le y_2 \le \dots", r"\bar x_{\pi(i)} = \bar y_i"),
    "top_k": (r"y_i = x_{\pi(i)}, \; i \le k", r"\bar x_{\pi(i)} = \bar y_i, \text{ else } 0"),
    "approx_top_k": (r"y_i = x_{\pi(i)}, \; i \le k", r"\bar x_{\pi(i)} = \bar y_i, \text{ else } 0"),
    "reduce_window_sum": (
        r"y_p = \sum_a x_{s p + d a - l}",
        r"\bar x_q = \sum_{p, a \,:\, s p + d a - l = q} \bar y_p",
    ),
    "reduce_window_max": (r"y_p = \max_a x_{s p + d a - l}", _WINDOW_EXTREMUM),
    "reduce_window_min": (r"y_p = \min_a x_{s p + d a - l}", _WINDOW_EXTREMUM),
    "select_and_gather_add": (
        r"y_p = x_{a(p)}, \; a(p) = \text{extremum of window } p",
        r"\bar x_q = \sum_{p \,:\, a(p) = q} \bar y_p",
    ),
    "select_and_scatter_add": (
        r"y_q = \sum_{p \,:\, a(p) = q} x_p, \; a(p) = \text{extremum of window } p",
        r"\bar x_p = \bar y_{a(p)}",
    ),
    "polynomial": (
        r"y = \sum_k c_k x^k",
        r"\bar x = \bar y \sum_k k \, c_k x^{k - 1}, \qquad \bar c_k = \bar y \, x^k",
    ),
    "reduce_precision": (r"y = \operatorname{round}(x)", r"\bar x = \operatorname{round}(\bar y)"),
    "triangular_solve": (
        r"A y = b, \; A \text{ triangular}",
        r"\bar b = A^{-\top} \bar y, \qquad \bar A = -\bar b \, y^\top \text{ in the triangle}",
    ),
    "tridiagonal_solve": (
        r"A y = b, \; A \text{ tridiagonal}",
        r"\bar b = A^{-\top} \bar y, \qquad \bar A = -\bar b \, y^\top \text{ on the three diagonals}",
    ),
    "custom_linear_solve": (
        r"A y = b",
        r"\bar b = A^{-\top} \bar y, \qquad \bar A = -\bar b \, y^\top",
    ),
    "cholesky": (
        r"L L^\top = A",
        r"\bar A = L^{-\top} \, \Phi(L^\top \bar L) \, L^{-1}, \; \text{symmetrised, } \Phi \text{: lower triangle, "
        r"half the diagonal}",
    ),
    "lu": (
        r"P A = L U",
        r"\bar A = P^\top L^{-\top} \big( \operatorname{low}(L^\top \bar L) + \operatorname{up}(\bar U U^\top) \big) "
        r"U^{-\top}",
    ),
    "qr": (
        r"A = Q R",
        r"\bar A = \big( \bar Q + Q \operatorname{copyltu}(R \bar R^\top - \bar Q^\top Q) \big) R^{-\top}",
    ),
    "eigh": (
        r"A = Q \Lambda Q^\top",
        r"\bar A = Q \Big( \operatorname{diag} \bar\lambda + F \odot Q^\top \bar Q \Big) Q^\top, \qquad "
        r"F_{ij} = \frac{1}{\lambda_j - \lambda_i}, \; F_{ii} = 0",
    ),
    "eig": (
        r"A V = V \Lambda",
        r"\bar A = V^{-\top} \Big( \operatorname{diag} \bar\lambda + F \odot V^\top \bar V \Big) V^\top, \qquad "
        r"F_{ij} = \frac{1}{\lambda_j - \lambda_i}, \; F_{ii} = 0",
    ),
    "svd": (
        r"A = U S V^\top",
        r"\bar A = U \Big( \operatorname{diag} \bar s + (F \odot [U^\top \bar U]) S + S (F \odot [V^\top \bar V]) "
        r"\Big) V^\top, \qquad F_{ij} = \frac{1}{s_j^2 - s_i^2}, \; [M] = M - M^\top",
    ),
    "random_gamma": (
        r"P(a, y) = u",
        r"\bar a = -\bar y \, \frac{\partial P / \partial a}{\partial P / \partial y}",
    ),
    "fft": (r"y = F x", r"\bar x = F \bar y"),
}  # fmt: skip

_PLACED = "says where the array lies, and changes no number"
_DISCRETE = "has no derivative: it gives whole numbers, flags, bits or random keys"
_CONTAINS = "runs a program of its own, which is not shown step by step"

# Why a primitive has no formula: read "cumsum …".
REASONS: dict[str, str] = {
    **dict.fromkeys(("sharding_constraint", "reshard", "layout_constraint"), _PLACED),
    **dict.fromkeys(
        (
            "argmax", "argmin", "bitcast_convert_type", "iota", "mulhi", "random_bits", "random_fold_in", "random_seed",
            "random_split", "random_unwrap", "random_wrap", "reduce_and", "reduce_or", "reduce_xor", "shift_left",
            "shift_right_arithmetic", "shift_right_logical", "threefry2x32", "random_clone",
        ),
        _DISCRETE,
    ),
    **dict.fromkeys(("reduce", "reduce_window", "shard_map", "while"), _CONTAINS),
    **dict.fromkeys(
        (
            "bcoo_dot_general_sampled", "bcoo_extract", "bcoo_fromdense", "bcoo_sort_indices", "bcoo_spdot_general",
            "bcoo_sum_duplicates", "bcoo_todense", "bcoo_transpose", "bcsr_extract", "bcsr_fromdense", "bcsr_todense",
            "todense",
        ),
        "moves or sums the entries of a sparse array; JAX computes it by a program of its own",
    ),
    "dlfn_form": "is part of a rule that an inner gradient has applied, in the form for this platform",
    "dlfn_linear": "is the derivative of an op that an inner derivative has applied; its formula is the op's own rule",
}  # fmt: skip
