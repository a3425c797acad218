"""Rows of calculus, linear algebra, linear models, and networks."""

from dlfn.catalogue.row import Row

ROWS = (
    Row(
        "calculus.power",
        "000 section 1, 004 calculus",
        r"\frac{d}{dx} x^n = n x^{n-1}",
        ("dlfn.calculus.power",),
    ),
    Row(
        "calculus.product",
        "000 section 1",
        r"(uv)' = u'v + uv'",
        ("dlfn.calculus.product",),
    ),
    Row(
        "calculus.quotient",
        "000 section 1",
        r"\left(\frac{u}{v}\right)' = \frac{u'v - uv'}{v^2}",
        ("dlfn.calculus.quotient",),
    ),
    Row(
        "calculus.chain",
        "000 section 1, 004 calculus",
        r"(f \circ g)'(x) = f'(g(x))\, g'(x)",
        ("dlfn.calculus.chain",),
    ),
    Row(
        "calculus.elementary",
        "000 section 2, 004 calculus",
        r"\sin' x = \cos x, \quad \cos' x = -\sin x, \quad (e^x)' = e^x, \quad \log' x = \frac{1}{x}",
        ("dlfn.calculus.sin", "dlfn.calculus.cos", "dlfn.calculus.exp", "dlfn.calculus.log"),
    ),
    Row(
        "calculus.limit",
        "004 calculus",
        r"f'(x) = \lim_{h \to 0} \frac{f(x + h) - f(x)}{h}",
        ("dlfn.calculus.finite_difference",),
    ),
    Row(
        "calculus.gradient",
        "000 section 4",
        r"f = (3x + 4y - 5)^2: \quad \nabla f = [6(3x + 4y - 5),\ 8(3x + 4y - 5)]",
        ("dlfn.calculus.gradient", "dlfn.calculus.partial"),
    ),
    Row(
        "calculus.directional",
        "004 calculus",
        r"D_v f = \nabla f \cdot v",
        ("dlfn.calculus.directional",),
    ),
    Row(
        "calculus.multivariable_chain",
        "004 calculus, 000 section 5, 002 section 12",
        r"\frac{\partial f}{\partial x} = \sum_i \frac{\partial f}{\partial y_i} \frac{\partial y_i}{\partial x}; \quad"
        r" L = (\hat y - y)^2,\ \hat y = h^2,\ h = w_1 x + b: \ \frac{dL}{dw_1} = 2(\hat y - y) \cdot 2h \cdot x",
        ("dlfn.backprop",),
    ),
    Row(
        "calculus.matrix_chain",
        "004 calculus, 002 section 12",
        r"\frac{\partial L}{\partial W} = \frac{\partial L}{\partial y} \cdot \frac{\partial y}{\partial W}",
        ("dlfn.calculus.jacobian", "dlfn.backprop"),
    ),
    Row(
        "linalg.products",
        "004 linear algebra",
        r"C = AB:\ \bar A = \bar C B^\top,\ \bar B = A^\top \bar C; \quad a \cdot b = \sum_i a_i b_i; \quad"
        r" A A^{-1} = I: \ \bar A = -A^{-\top} \bar Y A^{-\top}",
    ),
    Row(
        "linalg.eigen",
        "004 linear algebra",
        r"A v = \lambda v, \quad A = Q \Lambda Q^{-1}",
        ("dlfn.linalg.eig",),
    ),
    Row(
        "linalg.pca",
        "004 linear algebra",
        r"X - \bar X = U \Sigma V^\top, \quad Z = (X - \bar X) V_k",
        ("dlfn.linalg.PCA",),
    ),
    Row(
        "linalg.transforms",
        "004 linear algebra",
        r"R(\theta) = \begin{bmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{bmatrix},\quad"
        r" S = \begin{bmatrix} s_x & 0 \\ 0 & s_y \end{bmatrix},\quad"
        r" T = \begin{bmatrix} 1 & 0 & t_x \\ 0 & 1 & t_y \\ 0 & 0 & 1 \end{bmatrix}",
        (
            "dlfn.linalg.rotation",
            "dlfn.linalg.scaling",
            "dlfn.linalg.translation",
            "dlfn.linalg.transform_points",
            "dlfn.augmentation.affine",
        ),
    ),
    Row(
        "linear.perceptron",
        "001 section 1",
        r"\hat y = \operatorname{sign}(w^\top x),\ \operatorname{sign}(0) = +1; \quad \Delta w = \eta (t - \hat y) x",
        ("dlfn.linear_models.perceptron",),
    ),
    Row(
        "linear.regression",
        "001 section 2",
        r"J(w) = \frac{1}{2N} \|Xw - y\|^2, \quad \nabla J = \frac{1}{N} X^\top (Xw - y)",
        ("dlfn.linear_models.linear_regression",),
        "001 section 2 has 1/(2N) and 002 section 13.1 has 1/N: mse has the factor as an option.",
    ),
    Row(
        "linear.sigmoid",
        "001 section 3, 000 section 3, 002 section 2.1, 003 section 2",
        r"\sigma(z) = \frac{1}{1 + e^{-z}}, \quad \sigma' = \sigma (1 - \sigma); \quad"
        r" \sigma(1) = 0.731,\ \sigma'(1) = 0.197",
    ),
    Row(
        "linear.logistic",
        "001 section 4, 002 section 13.3",
        r"\ell = -[y \log \hat y + (1 - y) \log(1 - \hat y)], \quad \frac{\partial \ell}{\partial z} = \hat y - y",
        ("dlfn.linear_models.logistic_regression",),
    ),
    Row(
        "linear.softmax",
        "001 section 5, 000 sections 6 and 10, 002 section 2.9, 004 numerical stability",
        r"\hat y_i = \frac{e^{z_i}}{\sum_j e^{z_j}}, \quad"
        r" \frac{\partial \hat y_i}{\partial z_j} = \hat y_i (\delta_{ij} - \hat y_j)",
        ("dlfn.ops.softmax_jacobian",),
        "004 lists the unshifted form under numerical stability; the form shifted by the maximum is the stable one.",
    ),
    Row(
        "linear.cross_entropy",
        "001 section 6, 000 sections 8 and 9, 002 section 13.2, 003 section 4",
        r"L = -\sum_k y_k \log \hat y_k = -z_c + \log \sum_j e^{z_j}, \quad \frac{\partial L}{\partial z} = \hat y - y",
        ("dlfn.linear_models.softmax_regression",),
    ),
    Row(
        "linear.log_sum_exp",
        "000 sections 7 and 11, 004 numerical stability",
        r"\log \sum_j e^{z_j} = m + \log \sum_j e^{z_j - m},\ m = \max_j z_j; \quad"
        r" \log \operatorname{softmax}(z)_i = z_i - \log \sum_j e^{z_j}",
    ),
    Row(
        "network.affine",
        "002 section 1, 003 sections 1 and 3",
        r"z = Wx + b, \quad Z = X W^\top + b, \quad a = g(z)",
        ("dlfn.nn.Linear",),
        "002 section 1 writes ∂z/∂x = Wᵀ and ∂z/∂W = xᵀ, which is denominator layout; in numerator layout ∂z/∂x = W and"
        " ∂z/∂W is a third-order tensor.",
    ),
    Row(
        "network.backprop",
        "001 section 7, 003 section 5, 000 section 12",
        r"\delta^L = \hat y - y, \quad \delta^l = (\delta^{l+1} W^{l+1\top}) \odot \sigma'(z^l), \quad"
        r" \frac{\partial J}{\partial W^l} = h^{l-1\top} \delta^l, \quad"
        r" \frac{\partial J}{\partial b^l} = \sum \delta^l",
        ("dlfn.backprop",),
        "003 section 5 puts 1/m into the gradients and 001 section 7 does not: it belongs to the mean of the loss, and"
        " δ carries it here.",
    ),
    Row(
        "network.gradient_descent",
        "003 section 6, 001 section 2",
        r"W \leftarrow W - \alpha \frac{\partial C}{\partial W}",
        ("dlfn.optimizers.sgd",),
    ),
    Row(
        "network.relu",
        "001 section 8, 000 section 3, 002 section 2.3",
        r"\operatorname{ReLU}(z) = \max(0, z), \quad \operatorname{ReLU}'(z) = \mathbf 1_{z > 0}",
        erratum="ReLU′(0) = 0 in 002 section 2.3, and LeakyReLU′(0) = 1 in section 2.4: kept as written.",
    ),
    Row(
        "network.conv_output_size",
        "001 section 9, 002 section 5.2",
        r"\left\lfloor \frac{n + 2p - f}{s} \right\rfloor + 1; \quad 32 \to 28 \to 14 \to 14",
        ("dlfn.ops.conv_output_size",),
        "001 section 9 has p = (f − 1)/2 for 'same' padding: true for odd f; an even f needs one more at one end.",
    ),
    Row(
        "network.parameter_count",
        "001 section 10",
        r"\text{dense: } (n_{in} + 1)\, n_{out}, \quad \text{convolution: } (f^2 C_{in} + 1)\, C_{out}",
        ("dlfn.nn.count_parameters", "dlfn.nn.summary"),
    ),
    Row(
        "network.quick_reference",
        "001 quick reference",
        r"\frac{\partial L}{\partial z} = \hat y - y \text{ for (linear, MSE), (sigmoid, BCE), (softmax, CCE)}",
        ("dlfn.ops.mse", "dlfn.ops.binary_cross_entropy", "dlfn.ops.softmax_cross_entropy", "dlfn.backprop"),
    ),
)
