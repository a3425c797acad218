"""Rows of losses, regularisation, initialisation, optimisation, probability, and information."""

from dlfn.catalogue.row import Row

ROWS = (
    Row(
        "loss.mse",
        "002 section 13.1",
        r"L = \frac{1}{N} \sum_i (y_i - \hat y_i)^2, \quad \frac{\partial L}{\partial \hat y_i} = \frac{2}{N}"
        r" (\hat y_i - y_i)",
        erratum="002 section 13.1 has the gradient 2/N (y − ŷ): its sign is flipped.",
    ),
    Row(
        "regularisation.l1_l2",
        "002 sections 15.1 and 15.2",
        r"\frac{\lambda}{2} \sum W^2:\ \lambda W; \quad \lambda \sum |W|:\ \lambda \operatorname{sign}(W)",
        erratum="002 section 15.1 calls L2 'often implemented as weight_decay': the two are equal for SGD alone;"
        " AdamW's decay is decoupled from the gradient.",
    ),
    Row(
        "init.xavier_he",
        "002 sections 16.1 and 16.2",
        r"\operatorname{Var} W = \frac{2}{n_{in} + n_{out}}, \quad \operatorname{Var} W = \frac{2}{n_{in}}",
        (
            "dlfn.nn.initializers.xavier_uniform",
            "dlfn.nn.initializers.xavier_normal",
            "dlfn.nn.initializers.he_uniform",
            "dlfn.nn.initializers.he_normal",
        ),
        "002 section 16.2 has N(0, √(2/n)), which reads as a variance: √(2/n) is the standard deviation. ReLU does not"
        " double a variance; it halves the second moment, and the 2 restores it.",
    ),
    Row(
        "loss.peers",
        "peers",
        r"\text{Huber, log-cosh, KL, focal, hinge, InfoNCE: }"
        r" -\log \frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}, \quad"
        r" \text{CTC: } -\log \sum_{\pi \to l} \prod_t p_t(\pi_t)",
        (
            "dlfn.nn.initializers.lecun_normal",
            "dlfn.nn.initializers.orthogonal",
            "dlfn.nn.initializers.truncated_normal",
        ),
    ),
    Row(
        "optim.sgd",
        "002 section 14.1",
        r"\theta_{t+1} = \theta_t - \eta g_t",
        ("dlfn.optimizers.sgd",),
    ),
    Row(
        "optim.momentum",
        "002 section 14.2",
        r"v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta v_t",
        ("dlfn.optimizers.momentum",),
        "002 section 14.2 has v = μv + g, and 004 v = βv + (1 − β)g: two methods, both offered.",
    ),
    Row(
        "optim.momentum_ema",
        "004 optimization",
        r"v_{t+1} = \beta v_t + (1 - \beta) \nabla L(\theta_t)",
        ("dlfn.optimizers.momentum",),
        "002 section 14.2 has v = μv + g, and 004 v = βv + (1 − β)g: two methods, both offered.",
    ),
    Row(
        "optim.adam",
        "002 section 14.3",
        r"m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t,\ v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad"
        r" \theta_{t+1} = \theta_t - \eta \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}",
        ("dlfn.optimizers.adam", "dlfn.optimizers.adamw"),
    ),
    Row(
        "optim.rmsprop_adagrad",
        "004 optimization",
        r"\text{RMSprop: } v = \beta v + (1 - \beta) g^2; \quad \text{AdaGrad: } v = v + g^2; \quad"
        r" \theta \leftarrow \theta - \eta \frac{g}{\sqrt v + \epsilon}",
        ("dlfn.optimizers.rmsprop", "dlfn.optimizers.adagrad"),
    ),
    Row(
        "optim.schedules_clipping",
        "004 optimization",
        r"g \leftarrow g \min\left(1, \frac{c}{\|g\|}\right)",
        ("dlfn.train.config.Config",),
    ),
    Row(
        "probability.bayes",
        "004 probability",
        r"P(A|B) = \frac{P(A \cap B)}{P(B)} = \frac{P(B|A) P(A)}{P(B)}, \quad P(A \cap B) = P(A) P(B)",
        ("dlfn.probability.conditional", "dlfn.probability.bayes", "dlfn.probability.independent"),
    ),
    Row(
        "probability.distributions",
        "004 distributions",
        r"p^k (1-p)^{1-k}, \ \binom n k p^k (1-p)^{n-k}, \ \frac{\lambda^k e^{-\lambda}}{k!},"
        r" \frac{e^{-(x - \mu)^2 / 2\sigma^2}}{\sqrt{2 \pi \sigma^2}}, \ \frac{1}{b - a}, \ \lambda e^{-\lambda x}",
        (
            "dlfn.probability.Bernoulli",
            "dlfn.probability.Binomial",
            "dlfn.probability.Poisson",
            "dlfn.probability.Normal",
            "dlfn.probability.Uniform",
            "dlfn.probability.Exponential",
        ),
    ),
    Row(
        "statistics.descriptive",
        "004 statistics",
        r"\mu = \frac1n \sum x_i, \quad \sigma^2 = \frac1n \sum (x_i - \mu)^2, \quad"
        r" \operatorname{Cov}(X, Y) = E[(X - \mu_X)(Y - \mu_Y)]",
    ),
    Row(
        "statistics.tests",
        "004 hypothesis testing",
        r"p = P(\text{data at least as extreme} \mid H_0), \quad \text{reject } H_0 \text{ if } p < \alpha",
        (
            "dlfn.statistics.z_test",
            "dlfn.statistics.welch_t_test",
            "dlfn.statistics.chi_squared_test",
            "dlfn.statistics.permutation_test",
            "dlfn.statistics.compare_runs",
        ),
    ),
    Row(
        "probability.bayes_by_backprop",
        "004 applications",
        r"w = \mu + \log(1 + e^\rho) \odot \epsilon, \quad L = E[-\log p(D | w)] + \operatorname{KL}(q(w) \| p(w))",
        ("dlfn.nn.BayesianLinear",),
    ),
    Row(
        "data.augmentation",
        "004 applications",
        r"x \mapsto x \circ A^{-1}, \quad x \mapsto x + \sigma \epsilon",
        (
            "dlfn.augmentation.affine",
            "dlfn.augmentation.random_affine",
            "dlfn.augmentation.flip",
            "dlfn.augmentation.crop",
            "dlfn.augmentation.noise",
        ),
    ),
    Row(
        "numeric.safe_elementary",
        "004 numerical stability; peers",
        r"\nabla \|x\| = x / \|x\|,\ 0 \text{ at } 0; \quad x \log y = 0 \text{ at } x = 0; \quad \dots",
    ),
    Row(
        "information.entropy_kl",
        "004 information theory",
        r"H(p) = -\sum p \log p, \quad H(p, q) = -\sum p \log q, \quad"
        r" \operatorname{KL}(p \| q) = \sum p \log \frac p q \ge 0, \quad 0 \log 0 = 0",
    ),
    Row(
        "information.mutual",
        "004 information theory",
        r"I(X; Y) = H(X) - H(X|Y) = H(Y) - H(Y|X) = \operatorname{KL}(p_{XY} \| p_X p_Y)",
        ("dlfn.ops.info_nce",),
    ),
    Row(
        "information.vae_vib",
        "004 applications",
        r"\operatorname{KL}(N(\mu, \sigma^2) \| N(0, 1)) = \frac12 (\mu^2 + \sigma^2 - 1 - \log \sigma^2)",
    ),
)
