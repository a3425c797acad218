r"""Settings of rotary positions: the base, which features are turned, and scalings for longer contexts.

A pair i of a head's d features that are turned has the frequency :math:`f_i = b^{-2i/d}`, in radians per position. A
model that was trained on contexts of L positions has never seen the angles beyond; a *scaling* changes the frequencies,
so that a longer context has the angles that were seen.
"""

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlfn.core import InputError
from dlfn.ops.support.arguments import require_number

__all__ = ["LinearScaling", "Llama3Scaling", "Rope", "RopeScaling", "YarnScaling"]


class RopeScaling(abc.ABC):
    """What becomes of the frequencies of :class:`Rope`. Subclasses are frozen dataclasses of numbers."""

    factor: float

    def __post_init__(self):
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            kind, value = type(self).__name__, getattr(self, field.name)
            if field.default == 0:
                require_number(kind, field.name, value, "a number from 0 on", lambda x: 0 <= x < math.inf)
            elif not isinstance(value, bool) and (value is not None or field.default is not None):
                require_number(kind, field.name, value, "a positive number", lambda x: 0 < x < math.inf)

    @abc.abstractmethod
    def frequencies(self, plain: Any, base: float) -> Any:
        """Those in the place of the plain ones, :math:`b^{-2i/d}`; NumPy arrays of float64."""

    def magnitude(self) -> float:
        """What queries and keys are multiplied with as they are turned."""
        return 1.0


@dataclass(frozen=True)
class LinearScaling(RopeScaling):
    r"""Position interpolation: :math:`f_i / s`, as if positions stood s times as dense.

    Args:
        factor: s, how many times as long the context is.

    Source: Chen et al. 2023, *Extending Context Window of Large Language Models via Positional Interpolation*.
    """

    factor: float

    def frequencies(self, plain, base):
        return plain / self.factor


@dataclass(frozen=True)
class Llama3Scaling(RopeScaling):
    r"""Llama 3's scaling by wavelength. With :math:`r_i = L f_i / 2\pi`, the turns within the original context,

    .. math::
        f_i' = (1 - \gamma_i) f_i / s + \gamma_i f_i, \qquad
        \gamma_i = \operatorname{clip}\Big(\frac{r_i - l}{h - l}, 0, 1\Big):

    what turns fewer than l times is interpolated, and what turns more than h times stays as it is.

    Args:
        factor: s.
        low_freq_factor: l.
        high_freq_factor: h, larger than l.
        original_max_position_embeddings: L, the context of the training before.

    Source: Grattafiori et al. 2024, *The Llama 3 Herd of Models*; Meta's ``llama-models``, ``apply_scaling``.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: float = 8192

    def __post_init__(self):
        super().__post_init__()
        if self.low_freq_factor >= self.high_freq_factor:
            raise InputError(
                f"Llama3Scaling: low_freq_factor is {self.low_freq_factor!r}, and must be less than high_freq_factor, "
                f"which is {self.high_freq_factor!r}"
            )

    def frequencies(self, plain, base):
        turns = self.original_max_position_embeddings * plain / (2 * np.pi)
        share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        share = np.clip(share, 0, 1)
        return (1 - share) * plain / self.factor + share * plain


@dataclass(frozen=True)
class YarnScaling(RopeScaling):
    r"""YaRN: a ramp over the pairs between those that are interpolated and those that are not, and larger scores.

    .. math::
        f_i' = \gamma_i f_i / s + (1 - \gamma_i) f_i, \qquad
        \gamma_i = \operatorname{clip}\Big(\frac{i - c(\beta_{\mathrm{fast}})}
        {c(\beta_{\mathrm{slow}}) - c(\beta_{\mathrm{fast}})}, 0, 1\Big), \qquad
        c(\beta) = \frac{d \ln (L / 2\pi\beta)}{2 \ln b},

    where the pair c(β) turns β times within the original context. Queries and keys are multiplied with
    :math:`m(\mu) / m(\mu_{\mathrm{all}})`, where :math:`m(\mu) = 0.1 \mu \ln s + 1`, or 1 for :math:`s \le 1`.

    Args:
        factor: s.
        original_max_position_embeddings: L, the context of the training before.
        beta_fast, beta_slow: β of the ends of the ramp.
        attention_factor: what queries and keys are multiplied with; None for the above.
        mscale, mscale_all_dim: μ and :math:`\mu_{\mathrm{all}}`.
        truncate: whether the ends of the ramp are rounded outwards to whole pairs, as in the paper's program.

    Source: Peng et al. 2024, *YaRN: Efficient Context Window Extension of Large Language Models*; μ: DeepSeek-AI 2024,
    *DeepSeek-V2*.
    """

    factor: float
    original_max_position_embeddings: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 1.0
    mscale_all_dim: float = 0.0
    truncate: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.beta_slow > self.beta_fast:
            raise InputError(
                f"YarnScaling: beta_slow is {self.beta_slow!r}, and must not be more than beta_fast, which is "
                f"{self.beta_fast!r}"
            )

    def frequencies(self, plain, base):
        pairs = len(plain)
        low, high = (self._pair(beta, 2 * pairs, base) for beta in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        # A ramp of no width is a step; it is given a little, so that there is no 0 / 0.
        ramp = np.clip((np.arange(pairs) - low) / (high - low or 0.001), 0, 1)
        return ramp * plain / self.factor + (1 - ramp) * plain

    def magnitude(self):
        if self.attention_factor is not None:
            return self.attention_factor
        return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)

    def _pair(self, beta: float, dim: int, base: float) -> float:
        return dim * math.log(self.original_max_position_embeddings / (2 * math.pi * beta)) / (2 * math.log(base))

    def _magnitude(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1 if self.factor > 1 else 1.0


@dataclass(frozen=True)
class Rope:
    """Rotary positions, for ``MultiHeadAttention(positions=...)``: what :func:`dlfn.ops.rope` is called with.

    Args:
        base: of the frequencies, called ``rope_theta`` in many a model's configuration.
        interleaved: whether pairs are neighbours, as in the paper; by default the first half of the features is paired
            with the second ("rotate half"), as Llama in Hugging Face's form has it.
        fraction: which part of a head's features is turned, from the first on; the others stay as they are.
        scaling: for contexts longer than those of the training: :class:`LinearScaling`, :class:`Llama3Scaling`,
            :class:`YarnScaling`, or one of your own; None for none.

    Raises:
        InputError: on settings out of range.

    Source: Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*; a fraction: Black et al.
    2022, *GPT-NeoX-20B: An Open-Source Autoregressive Language Model*.

    >>> import dlfn.nn as nn
    >>> layer = nn.MultiHeadAttention(8, causal=True, positions=nn.Rope(base=5e5, scaling=nn.Llama3Scaling(factor=32)))
    >>> print(len(layer.positions.frequencies(64)), layer.positions.magnitude())
    32 1.0
    """

    base: float = 10000.0
    interleaved: bool = False
    fraction: float = 1.0
    scaling: RopeScaling | None = None

    def __post_init__(self):
        require_number("Rope", "base", self.base, "a number above 1", lambda base: 1 < base < math.inf)
        if not isinstance(self.interleaved, bool):
            raise InputError(f"Rope: interleaved is {self.interleaved!r}, and must be True or False")
        require_number("Rope", "fraction", self.fraction, "a number in (0, 1]", lambda part: 0 < part <= 1)
        if self.scaling is not None and not isinstance(self.scaling, RopeScaling):
            raise InputError(
                f"Rope: scaling is {self.scaling!r}, and must be one of LinearScaling(factor), Llama3Scaling(...) and "
                "YarnScaling(...), or None"
            )

    def frequencies(self, head_dim: int) -> tuple[float, ...]:
        """Of each pair of a head's features that is turned, in radians per position.

        Raises:
            InputError: where these features are not an even number, two at least.
        """
        dim = int(head_dim * self.fraction)
        if dim % 2 or not dim:
            part = "" if self.fraction == 1 else f", of which fraction={self.fraction} are {dim} features"
            raise InputError(f"head_dim is {head_dim}{part}, and must be even, as rope turns pairs of features")
        plain = float(self.base) ** (-np.arange(0, dim, 2) / dim)
        scaled = plain if self.scaling is None else self.scaling.frequencies(plain, self.base)
        return tuple(scaled.tolist())

    def magnitude(self) -> float:
        """What queries and keys are multiplied with as they are turned."""
        return 1.0 if self.scaling is None else self.scaling.magnitude()
