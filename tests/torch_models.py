"""Models as one would write them in PyTorch, and where their weights go in the same models here."""

import torch
from torch import nn
from torch.nn import functional as F

from dlfn.weights import To, pytorch, under

torch.set_num_threads(1)  # products as small as these take longer in several

__all__ = [
    "GPT", "VAE", "ResNet", "TextLSTM", "VisionTransformer", "gpt_names", "lstm_names", "resnet_names", "vae_names",
    "vit_names",
]  # fmt: skip


class Block(nn.Module):
    """nanoGPT's block: one product for queries, keys and values, PyTorch's fused attention, norms first."""

    def __init__(self, width, heads, bias, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.c_fc, self.mlp_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        batch, steps, width = x.shape
        q, k, v = (
            z.view(batch, steps, self.heads, -1).transpose(1, 2) for z in self.c_attn(self.ln_1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(batch, steps, width))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    """nanoGPT's model: learned positions, blocks, a norm, and a head that is the embedding's table."""

    def __init__(self, vocabulary, context, layers, heads, width, bias=False):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList([Block(width, heads, bias) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width, bias=bias)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)

    def loss(self, inputs, labels):
        logits = self(inputs)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1))

    def optimizer(self, rate=1e-3, decay=0.1):
        """nanoGPT's: weight decay for matrices alone."""
        groups = [[p for p in self.parameters() if (p.dim() >= 2) is matrices] for matrices in (True, False)]
        groups = [{"params": groups[0], "weight_decay": decay}, {"params": groups[1], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))


def gpt_names(layers, bias=False):
    return {
        "wte.weight": "embedding/table",
        "wpe.weight": "body/positions/table",
        **block_names(layers, bias, "body/blocks"),
        **under(pytorch.norm(bias=bias), "ln_f.", "body/norm"),
    }


def block_names(layers, bias, path):
    names = {}
    for index in range(layers):
        attention, mlp = f"{path}/{index}/attention", f"{path}/{index}/mlp"
        heads = pytorch.multi_head_attention(bias=bias)
        inputs = {"c_attn.weight": heads["in_proj_weight"], **({"c_attn.bias": heads["in_proj_bias"]} if bias else {})}
        block = {
            **under(inputs, "", f"{attention}/attention"),
            **under(pytorch.linear(bias=bias), "c_proj.", f"{attention}/attention/o"),
            **under(pytorch.linear(bias=bias), "c_fc.", f"{mlp}/mlp/up"),
            **under(pytorch.linear(bias=bias), "mlp_proj.", f"{mlp}/mlp/down"),
            **under(pytorch.norm(bias=bias), "ln_1.", f"{attention}/norm"),
            **under(pytorch.norm(bias=bias), "ln_2.", f"{mlp}/norm"),
        }
        names |= under(block, f"h.{index}.")
    return names


class TextLSTM(nn.Module):
    """Of the two biases of PyTorch's gates the second stays 0, as the two together would learn twice as fast as one."""

    def __init__(self, vocabulary, width, layers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)

    def loss(self, inputs, labels):
        logits = self.head(self.lstm(self.embedding(inputs))[0])
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def lstm_names(layers):
    names = {"embedding.weight": "embedding/table", **under(pytorch.linear(), "head.", "head")}
    for index in range(layers):
        names |= under(pytorch.lstm(index), "lstm.", f"body/lstm/{index}")
    return names


class VAE(nn.Module):
    """With one hidden layer each in encoder and decoder."""

    def __init__(self, entries, width, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(entries, width), nn.GELU(), nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.GELU(), nn.Linear(width, entries))

    def loss(self, x, noise):
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        logits = self.decoder(mean + torch.exp(log_variance / 2) * noise)
        kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean() / 2
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x) + kl


def vae_names():
    return {
        f"{part}.{number}.{name}": To(f"{part}/{path}/{rule.paths[0]}", rule.rule)
        for part in ("encoder", "decoder")
        for number, path in ((0, "hidden_0/linear"), (2, "logits"))
        for name, rule in under(pytorch.linear()).items()
    }


class VisionTransformer(nn.Module):
    def __init__(self, outputs, size, patch, layers, heads, width):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.h = nn.ModuleList([Block(width, heads, bias=True, causal=False) for _ in range(layers)])
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x):
        tokens = self.patches(x[:, None]).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), tokens], dim=1) + self.positions
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x)[:, 0])


def vit_names(layers):
    return {
        **under(pytorch.conv(), "patches.", "patches"),
        "token": "tokens/token",
        "positions": "tokens/positions",
        **block_names(layers, True, "blocks"),
        **under(pytorch.norm(), "ln_f.", "norm"),
        **under(pytorch.linear(), "head.", "logits"),
    }


class ResidualBlock(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, inputs, features, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(features), nn.BatchNorm2d(features)
        self.downsample = None
        if stride > 1 or inputs != features:
            convolution = nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(features))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's ResNet of basic blocks, and with a small stem that for CIFAR."""

    def __init__(self, outputs, blocks, width, large):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False) if large else nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        inputs, self.blocks = width, nn.ModuleList()
        for stage, count in enumerate(blocks):
            for index in range(count):
                features = width * 2**stage
                self.blocks.append(ResidualBlock(inputs, features, 2 if stage and index == 0 else 1))
                inputs = features
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def resnet_names(blocks):
    names = {**_convolution("conv1", "bn1", "stem"), **under(pytorch.linear(), "head.", "logits")}
    number = 0
    for stage, count in enumerate(blocks):
        for index in range(count):
            path = f"stage_{stage}_block_{index}/sum"
            block = {}
            if stage and index == 0:
                block |= _convolution("downsample.0", "downsample.1", f"{path}/projection")
                path += "/layer"
            block |= _convolution("conv1", "bn1", f"{path}/first") | _convolution("conv2", "bn2", f"{path}/second")
            names |= under(block, f"blocks.{number}.")
            number += 1
    return names


def _convolution(conv, norm, path):
    names = under(pytorch.conv(bias=False), f"{conv}.", f"{path}/conv")
    return {**names, **under(pytorch.batch_norm(), f"{norm}.", f"{path}/norm")}
