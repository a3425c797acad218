"""Rows of activations, normalisation, convolution, recurrence, and attention."""

from dlfn.catalogue.row import Row

ROWS = (
    Row(
        "activation.tanh",
        "000 section 3, 002 section 2.2",
        r"\tanh z = \frac{e^z - e^{-z}}{e^z + e^{-z}} = 2 \sigma(2z) - 1, \quad \tanh' = 1 - \tanh^2",
    ),
    Row(
        "activation.leaky_relu",
        "002 section 2.4",
        r"f(z) = z \text{ if } z \ge 0 \text{ else } \alpha z, \quad"
        r" f'(z) = 1 \text{ if } z \ge 0 \text{ else } \alpha",
        erratum="ReLU′(0) = 0 in 002 section 2.3, and LeakyReLU′(0) = 1 in section 2.4: kept as written.",
    ),
    Row(
        "activation.prelu",
        "002 section 2.5",
        r"f(z) = z \text{ if } z \ge 0 \text{ else } \alpha z, \quad"
        r" \frac{\partial f}{\partial \alpha} = \min(z, 0), \quad \alpha \text{ learned}",
        ("dlfn.nn.PReLU",),
    ),
    Row(
        "activation.gelu",
        "002 section 2.6, 000 section 3",
        r"z\, \Phi(z) = \frac{z}{2}\Big(1 + \operatorname{erf} \frac{z}{\sqrt 2}\Big) \approx"
        r" \frac{z}{2}\Big(1 + \tanh\big(\sqrt{2/\pi}\,(z + 0.044715 z^3)\big)\Big)",
        erratum="000 section 3 has 0.0447 for the published constant 0.044715 (whose largest error against the exact"
        " GELU is, at 4.732e-4, a little larger than that of 0.0447, 4.691e-4).",
    ),
    Row(
        "activation.silu",
        "002 section 2.7",
        r"z\, \sigma(z), \quad \sigma(z) + z\, \sigma(z) (1 - \sigma(z))",
    ),
    Row(
        "activation.softplus",
        "002 section 2.8",
        r"\ln(1 + e^z), \quad \sigma(z)",
    ),
    Row(
        "activation.peers",
        "peers",
        r"\operatorname{ELU}(z) = z \text{ if } z > 0 \text{ else } \alpha (e^z - 1), \quad"
        r" \operatorname{Mish}(z) = z \tanh(\ln(1 + e^z)), \quad"
        r" \operatorname{SwiGLU}(a, b) = a \odot b\, \sigma(b), \ \dots",
    ),
    Row(
        "norm.batch",
        "002 section 3.1",
        r"\hat x = \frac{x - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}}, \quad y = \gamma_c \hat x + \beta_c, \quad"
        r" \bar x = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}"
        r" \big(\bar y - \langle \bar y \rangle - \hat x \langle \bar y \hat x \rangle\big)",
        ("dlfn.nn.BatchNorm",),
        "002 section 3.1 averages over n alone for N×C×H×W inputs: μ and σ² are over n, h and w.",
    ),
    Row(
        "norm.layer",
        "002 section 3.2",
        r"\hat x_{n,i} = \frac{x_{n,i} - \mu_n}{\sqrt{\sigma_n^2 + \epsilon}}, \quad"
        r" y_{n,i} = \gamma_i \hat x_{n,i} + \beta_i",
        ("dlfn.nn.LayerNorm",),
    ),
    Row(
        "norm.instance_group",
        "002 sections 3.3 and 3.4",
        r"\mu_{n,g},\ \sigma_{n,g}^2 \text{ over space and the channels of group } g;"
        r" \text{ a group of one channel is instance normalisation}",
        ("dlfn.nn.InstanceNorm", "dlfn.nn.GroupNorm"),
    ),
    Row(
        "norm.peers",
        "peers",
        r"\operatorname{RMS}: \frac{x}{\sqrt{\langle x^2 \rangle + \epsilon}} \gamma, \quad"
        r" \text{weight}: g \frac{v}{\|v\|}, \quad \text{spectral}: \frac{W}{u^\top W v}",
        ("dlfn.ops.spectral_norm",),
    ),
    Row(
        "dropout.standard",
        "002 section 4",
        r"m_i \sim \operatorname{Bernoulli}(p), \quad y_i = \frac{m_i x_i}{p}",
        ("dlfn.nn.Dropout",),
        "p is the probability to keep in 002 section 4, while the rate of many libraries is the probability to drop:"
        " the argument is keep_prob.",
    ),
    Row(
        "dropout.variants",
        "002 section 4",
        r"\text{DropConnect: } y = x (m \odot W) / p; \quad \text{spatial: } y_{n,h,w,c} = m_{n,c}\, x_{n,h,w,c} / p",
        ("dlfn.nn.DropConnect", "dlfn.nn.SpatialDropout"),
    ),
    Row(
        "conv.conv2d",
        "002 sections 5.1 and 5.3",
        r"(I * K)_{c,i,j} = \sum_{c'} \sum_{a,b} I_{c', i + a, j + b} K_{c,c',a,b}",
        ("dlfn.ops.flip_kernel", "dlfn.nn.Conv"),
    ),
    Row(
        "conv.stride_padding",
        "002 section 5.2",
        r"H_{out} = \left\lfloor \frac{H_{in} + 2p - k}{s} \right\rfloor + 1",
        ("dlfn.ops.conv_output_size",),
    ),
    Row(
        "conv.conv1d",
        "002 section 5.4",
        r"(x * K)_{c,l} = \sum_{c'} \sum_a x_{c', l + a} K_{c,c',a}",
    ),
    Row(
        "pool.max_average_global",
        "002 sections 6.1 to 6.3",
        r"y_{i,j} = \max_{\mathcal R_{i,j}} x, \quad y_{i,j} = \frac{1}{|\mathcal R_{i,j}|} \sum_{\mathcal R_{i,j}} x,"
        r" \quad y_c = \frac{1}{HW} \sum_{i,j} x_{c,i,j}",
    ),
    Row(
        "rnn.vanilla",
        "002 section 7.1",
        r"h_t = \sigma_h(W_{hh} h_{t-1} + W_{xh} x_t + b_h), \quad"
        r" \frac{\partial h_t}{\partial h_{t-k}} = \prod_j \operatorname{diag}(\sigma_h'(a_j))\, W_{hh}",
        ("dlfn.nn.RNN", "dlfn.check.jacobian_norms"),
        "002 section 7.1 has ∂h_t/∂h_{t−k} ∝ W^k: the derivatives of the activation belong in the product.",
    ),
    Row(
        "rnn.lstm",
        "002 section 7.2",
        r"c_t = f_t \odot c_{t-1} + i_t \odot \tilde c_t, \quad h_t = o_t \odot \tanh c_t",
        ("dlfn.nn.LSTM",),
    ),
    Row(
        "rnn.gru",
        "002 section 7.3",
        r"\tilde h_t = \tanh(W [r_t \odot h_{t-1}; x_t] + b), \quad"
        r" h_t = (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t",
        ("dlfn.nn.GRU",),
    ),
    Row(
        "rnn.peers",
        "peers",
        r"\overrightarrow h_t, \overleftarrow h_t; \quad h^{(l)}_t = f(h^{(l-1)}_t, h^{(l)}_{t-1}); \quad"
        r" \text{zoneout: } h_t = m \odot h_{t-1} + (1 - m) \odot \tilde h_t",
        ("dlfn.nn.Recurrent", "dlfn.nn.Stacked", "dlfn.nn.Bidirectional", "dlfn.nn.Zoneout"),
    ),
    Row(
        "attention.scaled_dot_product",
        "002 section 8.1",
        r"\operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V",
    ),
    Row(
        "attention.multi_head",
        "002 section 8.2",
        r"\operatorname{head}_i = \operatorname{Attention}(Q W_i^Q, K W_i^K, V W_i^V), \quad"
        r" \operatorname{Concat}(\operatorname{head}_1, \dots, \operatorname{head}_h) W^O",
        ("dlfn.nn.MultiHeadAttention",),
    ),
    Row(
        "attention.causal",
        "002 section 8.3",
        r"A_{i,j} = \frac{\exp(q_i^\top k_j / \sqrt{d_k})}{\sum_{j' \le i} \exp(q_i^\top k_{j'} / \sqrt{d_k})}"
        r" \text{ if } j \le i \text{ else } 0",
        ("dlfn.nn.MultiHeadAttention",),
    ),
    Row(
        "transformer.block",
        "002 section 9",
        r"F = X + \operatorname{Attn}(\operatorname{LN}(X)), \quad Y = F + \operatorname{MLP}(\operatorname{LN}(F)),"
        r" \quad \operatorname{MLP}(x) = W_2\, \sigma(W_1 x + b_1) + b_2",
        ("dlfn.nn.TransformerBlock",),
    ),
    Row(
        "transformer.residual",
        "002 section 10",
        r"y = F(x) + x, \quad y = F(x) + W_s x, \quad"
        r" \frac{\partial y}{\partial x} = \frac{\partial F}{\partial x} + I",
        ("dlfn.nn.Residual",),
    ),
    Row(
        "transformer.positions",
        "002 sections 11.1 and 11.2",
        r"PE_{pos, 2i} = \sin\frac{pos}{10000^{2i/d}}, \quad PE_{pos, 2i+1} = \cos\frac{pos}{10000^{2i/d}}",
        ("dlfn.ops.sinusoidal_positions", "dlfn.nn.LearnedPositions", "dlfn.ops.alibi_bias"),
    ),
    Row(
        "transformer.embedding",
        "peers",
        r"y_n = E_{i_n}, \quad \bar E_v = \sum_{n: i_n = v} \bar y_n, \quad \text{logits} = x E^\top",
        ("dlfn.nn.Embedding",),
    ),
)
