"""Which array of a file belongs to which leaf: a map as plain data, and what it says for given leaves."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dlfn.core import InputError
from dlfn.weights.messages import MOST_PROPOSED, near
from dlfn.weights.rules import Rule, identity

__all__ = ["Link", "Names", "Place", "To", "ignored", "ignores", "links", "renamed", "under"]


@dataclass(frozen=True, init=False)
class To:
    """Where arrays of a file go: the path of a leaf, or several for a rule that makes several, and how they change.

    Args:
        paths: as in ``"hidden/w"``: keys and positions joined by slashes.
        rule: how the file's arrays become the leaves.
        tree: ``"params"`` or ``"state"``.
    """

    paths: tuple[str, ...]
    rule: Rule
    tree: str

    def __init__(self, paths: str | Sequence[str], rule: Rule = identity, *, tree: str = "params"):
        if tree not in ("params", "state"):
            raise InputError(f"To: tree must be 'params' or 'state', got {tree!r}")
        object.__setattr__(self, "paths", (paths,) if isinstance(paths, str) else tuple(paths))
        object.__setattr__(self, "rule", rule)
        object.__setattr__(self, "tree", tree)


# For arrays of a file that have no place here, such as a counter: import passes over them, export does not write them.
ignored = To(())

# Each name in the file, or tuple of names for a rule that takes several, to its place; a bare path stands for To(path).
Names = Mapping[str | tuple[str, ...], str | To]


def under(names: Names, prefix: str = "", path: str = "") -> dict[str | tuple[str, ...], str | To]:
    """The same names with a prefix, for paths below a path.

    >>> under({"weight": "w"}, "encoder.", "hidden/0")
    {'encoder.weight': To(paths=('hidden/0/w',), rule=Identity(), tree='params')}
    """
    found: dict[str | tuple[str, ...], str | To] = {}
    for name, target in names.items():
        to = _target(target)
        paths = [f"{path}/{inner}" if path else inner for inner in to.paths]
        key = prefix + name if isinstance(name, str) else tuple(prefix + part for part in name)
        found[key] = To(paths, to.rule, tree=to.tree)
    return found


def renamed(names: Names, changes: Mapping[str, str]) -> dict[str | tuple[str, ...], str | To]:
    """The same places under other names, as for a module that is built alike and calls its parts otherwise.

    What is to change is given with its dots: ``"old."`` is how names begin, ``".old"`` how they end, ``".old."`` stands
    inside of them, and ``"old"`` is a whole name. A placeholder, as in ``"layers.{i}."``, stands for anything between
    two dots, a number, a word or a placeholder of the map, and is the same in the new name.

    Args:
        names: of a map; every name of a tuple is changed.
        changes: old to new, which are made one after the other.

    Raises:
        InputError: where a change fits no name, so that a typo is not passed over, where it makes one name of two,
            and where the new text has a placeholder that the old has not.

    >>> from dlfn.weights import Summed
    >>> names = {"layers.{i}.w": "h/w", ("layers.{i}.b", "layers.{i}.c"): To("h/b", Summed()), "head.w": "head/w"}
    >>> for name in renamed(names, {"layers.{n}.": "encoder.{n}.mlp.", ".w": ".weight"}):
    ...     print(name)
    encoder.{i}.mlp.weight
    ('encoder.{i}.mlp.b', 'encoder.{i}.mlp.c')
    head.weight
    """
    for old, new in changes.items():
        pattern, after = _renaming(old, new), {}
        for key, target in names.items():
            parts = (key,) if isinstance(key, str) else key
            fresh = tuple(pattern.sub(lambda match: _filled(new, match.groupdict()), part) for part in parts)  # noqa: B023
            fresh = fresh[0] if isinstance(key, str) else fresh
            if fresh in after:
                raise InputError(f"renamed: {old!r} to {new!r} makes two names {fresh!r}")
            after[fresh] = target
        if list(after) == list(names):
            few = ", ".join(str(key) for key in list(names)[:3])
            raise InputError(
                f"renamed: {old!r} fits none of the names, which are {few}{', ...' if len(names) > 3 else ''}; "
                "'old.' is the beginning of a name, '.old' an end, '.old.' the middle, and 'old' a whole name"
            )
        names = after
    return dict(names)


def _renaming(old: str, new: str) -> re.Pattern[str]:
    strange = set(_placeholders(new)) - set(_placeholders(old))
    if strange or not old.strip("."):
        what = (
            f"{new!r} has the placeholder {strange.pop()!r}, which is not in {old!r}"
            if strange
            else f"{old!r} is empty"
        )
        raise InputError(f"renamed: {what}; to put a prefix before every name, use under(names, 'prefix.')")
    expression = _expression(old, "[^.]+")
    return re.compile(("" if old.startswith(".") else "^") + expression + ("" if old.endswith(".") else "$"))


Place = tuple[str, str]  # the tree, "params" or "state", and the path in it


class Link(NamedTuple):
    """One application of a rule: names in the file, and leaves, or their slices at an index of stacked ones."""

    names: tuple[str, ...]
    places: tuple[Place, ...]
    at: tuple[int, ...]
    rule: Rule

    def __str__(self) -> str:
        return ", ".join(self.names)


def _target(target: str | To) -> To:
    return To(target) if isinstance(target, str) else target


def links(names: Names, leaves: Mapping[Place, Any], problems: list[str]) -> list[Link]:
    """What the map says for these leaves, every placeholder resolved. Adds to the problems what it takes twice, and the
    leaves that it leaves out."""
    found: list[Link] = []
    paths = {of: {path: None for tree, path in leaves if tree == of} for of in ("params", "state")}
    for name, target in names.items():
        to = _target(target)
        if to.paths:
            found += _links_of((name,) if isinstance(name, str) else name, to, leaves, paths[to.tree], problems)
    sources: dict[Any, Link] = {}
    for link in found:
        for end in (*link.names, *((place, link.at) for place in link.places)):
            if end in sources:
                what = end if isinstance(end, str) else " ".join(end[0])
                problems.append(f"{what} is taken twice: by the names {sources[end]} and {link}")
            sources[end] = link
    reached = {place for link in found for place in link.places}
    problems += [f"no name goes to {' '.join(place)}" for place in leaves if place not in reached]
    return found


def _links_of(
    names: Sequence[str], to: To, leaves: Mapping[Place, Any], candidates: Mapping[str, None], problems: list[str]
) -> Iterator[Link]:
    described = f"{', '.join(names)} to {to.tree} {', '.join(to.paths)}"
    if (len(names), len(to.paths)) != (to.rule.arrays, to.rule.leaves):
        raise InputError(f"names: {to.rule} takes {to.rule.arrays} names to {to.rule.leaves} paths, got {described}")
    several = [(v, tuple((to.tree, _filled(path, v)) for path in to.paths)) for v in _matches(to.paths[0], candidates)]
    several = [(numbers, places) for numbers, places in several if all(place in leaves for place in places)]
    if not several:
        other = near(to.paths[0], candidates) if len(problems) < MOST_PROPOSED else ""
        problems.append(f"{described}: there is no such leaf{other}")
    for numbers, places in several:
        stacked = [name for name in _placeholders(names[0]) if name not in numbers]
        sizes = {tuple(leaves[place].shape[: len(stacked)]) for place in places}
        if len(sizes) > 1 or len(min(sizes)) < len(stacked):
            shapes = ", ".join(str(list(leaves[place].shape)) for place in places)
            problems.append(f"{described}: the leaves are not stacked as the names say, but of shape {shapes}")
            continue
        for at in np.ndindex(*min(sizes)):
            values = numbers | dict(zip(stacked, map(str, at), strict=True))
            yield Link(tuple(_filled(name, values) for name in names), places, at, to.rule)


_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _placeholders(pattern: str) -> list[str]:
    return list(dict.fromkeys(_PLACEHOLDER.findall(pattern)))


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), pattern)


def _expression(pattern: str, what: str = r"\d+") -> str:
    """A regular expression for the pattern, with the groups that its placeholders name."""
    literal = _PLACEHOLDER.split(pattern)[::2]
    seen, expression = set(), re.escape(literal[0])
    for name, text in zip(_PLACEHOLDER.findall(pattern), literal[1:], strict=True):
        expression += (f"(?P={name})" if name in seen else f"(?P<{name}>{what})") + re.escape(text)
        seen.add(name)
    return expression


def _matches(pattern: str, candidates: Mapping[str, None]) -> list[dict[str, str]]:
    """The numbers of the placeholders in those of the candidates that fit the pattern."""
    if not _placeholders(pattern):
        return [{}] if pattern in candidates else []
    expression = re.compile(_expression(pattern))
    return [match.groupdict() for candidate in candidates if (match := expression.fullmatch(candidate))]


def ignores(names: Names) -> Callable[[str], bool]:
    """Whether a name of a file has no place by the map, and is not to have one."""
    keys = [key for key, target in names.items() if not _target(target).paths]
    patterns = [re.compile(_expression(each)) for key in keys for each in ((key,) if isinstance(key, str) else key)]
    return lambda name: any(pattern.fullmatch(name) for pattern in patterns)
