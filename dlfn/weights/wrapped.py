"""What layers around others make of their names: of weights that they normalise, and of params that serve twice."""

from collections.abc import Mapping
from typing import Any

from dlfn import nn
from dlfn.core import InputError
from dlfn.weights.names import Names, To, ignored
from dlfn.weights.rules import Flattened, Moved, Rule, Squeezed, identity

__all__ = ["normalised", "without_ties"]


def normalised(
    layer: nn.WeightNorm | nn.SpectralNorm, names: Names, path: tuple[str, ...], hooks: bool
) -> dict[Any, Any]:
    """The names of what is inside a WeightNorm or SpectralNorm, with what it makes of the one of the weight.

    Args:
        layer: the layer around it.
        names: of the layers inside, by their full paths.
        path: of the layer around them.
        hooks: whether it is the older ``torch.nn.utils.weight_norm`` or ``spectral_norm``, which is a hook, rather than
            that of ``torch.nn.utils.parametrizations``.
    """
    spectral = isinstance(layer, nn.SpectralNorm)
    inner = path if spectral else (*path, "layer")
    weight = "/".join((*inner, layer.weight))
    found: dict[Any, Any] = {}
    for key, target in names.items():
        to = To(target) if isinstance(target, str) else target
        if to.tree == "state" and spectral:
            below = len("/".join((*path, "")))
            found[key] = To(["/".join((*path, "layer", each[below:])) for each in to.paths], to.rule, tree="state")
        elif to.tree == "state" or weight not in to.paths:
            found[key] = to
        elif not isinstance(key, str) or not isinstance(to.rule, Moved | Flattened):
            raise InputError(
                f"torch_names: {type(layer).__name__} has the weight {layer.weight!r}, which is not as it is in "
                f"{key!r}: {to.rule}; map it by name"
            )
        else:
            stem, dot, name = key.rpartition(".")
            new, old = f"{stem}{dot}parametrizations.{name}.", f"{stem}{dot}{name}_"
            if spectral:
                u = To("/".join((*path, "u")), tree="state")
                if hooks:
                    found |= {f"{old}orig": to, f"{old}u": u, f"{old}v": ignored}
                else:
                    found |= {f"{new}original": to, f"{new}0._u": u, f"{new}0._v": ignored}
            else:
                lengths = To("/".join((*path, "g")), _lengths(layer.axis, to.rule, _axes(layer.layer, layer.weight)))
                found |= (
                    {f"{old}g": lengths, f"{old}v": to}
                    if hooks
                    else {f"{new}original0": lengths, f"{new}original1": to}
                )
    return found


def _lengths(axis: int | None, rule: Moved | Flattened, axes: int) -> Rule:
    """The rule of the lengths, which in PyTorch have as many axes as the weight, all but one of length 1."""
    if axis is None:
        return identity
    moved = rule.to if isinstance(rule, Moved) else (-1, -2)
    axis = axis % axes
    theirs = [each % axes for each in moved]
    dim = theirs.index(axis) if axis in theirs else 2 + axis
    return Squeezed(tuple(each for each in range(axes) if each != dim))


def _axes(layer: nn.Layer, weight: str) -> int:
    """How many axes the weight has."""
    children = layer.children()
    if "" in children:
        return _axes(children[""], weight)
    name, _, rest = weight.partition("/")
    if name in children:
        return _axes(children[name], rest)
    if isinstance(layer, nn.Conv | nn.DepthwiseConv | nn.ConvTranspose):
        return 4 if isinstance(layer.window, int) else 2 + len(layer.window)
    return 2


def without_ties(layer: nn.Tied, names: Mapping[Any, Any], path: tuple[str, ...]) -> dict[Any, Any]:
    """The names but for those of places that have the params of others."""
    places = tuple("/".join((*path, place, "")) for place in dict(layer.ties))
    found = {}
    for key, to in names.items():
        tied = [to.tree == "params" and f"{leaf}/".startswith(places) for leaf in to.paths]
        if any(tied) and not all(tied):
            raise InputError(f"torch_names: a part of {key!r} is tied to other params; map it by name")
        if not any(tied):
            found[key] = to
    return found
