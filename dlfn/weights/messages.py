"""What does not fit between a file and a model, in as few lines as say it."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

from dlfn.core import InputError

__all__ = ["MOST_PROPOSED", "Problems", "folded", "near"]

_MOST_LINES = 20  # of one kind
MOST_PROPOSED = 100  # lines with another name, as it takes long to find one among all
_NUMBER = re.compile(r"(?<!\w)\d+(?!\w)")  # of a block, and not that in fc1


@dataclass
class Problems:
    """What was found to be wrong, by kind."""

    lines: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)  # of an axis in the file and of the same in its leaf
    missing: dict[str, Sequence[str]] = field(default_factory=dict)  # and unexpected names of arrays of its shape
    unexpected: list[str] = field(default_factory=list)

    def raise_any(self, what: str, found: Collection[str] = ()) -> None:
        """Raises an InputError if there are any.

        Args:
            what: the function that the user called.
            found: the names of the map that are among the arrays.
        """
        count = sum(map(len, (self.lines, self.shapes, self.missing, self.unexpected)))
        if not count:
            return
        lines = [*self._of_names(found), *self._of_shapes(), *_few(self.lines)]
        total = "1 mismatch" if count == 1 else f"{count} mismatches"
        raise InputError("\n  ".join([f"{what}: {total}", *lines]))

    def _of_names(self, found: Collection[str]) -> list[str]:
        missing, unexpected = list(self.missing), [_printable(name) for name in self.unexpected]
        prefix = _prefix(missing, unexpected)
        lines = []
        if prefix:
            lines.append(prefix.advice(len(missing), len(found)))
            missing, unexpected = prefix.others(missing, unexpected)
        elif not found and len(missing) > 3 and len(unexpected) > 3:
            return [
                f"none of the {len(missing)} names is in arrays, which are of another architecture or named otherwise",
                *(
                    f"{what}: {', '.join(_few(names, 4))}"
                    for what, names in (("names", missing), ("arrays", unexpected))
                ),
            ]
        lacking, missing = _blocks(missing, found)
        strange, unexpected = _blocks(unexpected, [*found, *self.missing])
        proposed = len(missing) <= MOST_PROPOSED
        lines += _few(
            f"{name}: missing{near(name, self.missing[name], ', which no name takes') if proposed else ''}"
            for name in missing
        )
        lines += _few(f"{block}…: all {count} names are missing" for block, count in lacking.items())
        lines += _few(f"{name}: no name takes it; {_reason(name)}" for name in unexpected)
        return lines + _few(
            f"{block}…: no name takes any of {count} arrays; map them to ignored if they have no place"
            for block, count in strange.items()
        )

    def _of_shapes(self) -> list[str]:
        lines = folded(self.shapes)
        theirs = [size for size, _ in self.sizes]
        if len(lines) < 4 or len(theirs) != len(set(theirs)):
            return _few(self.shapes)
        sizes = ", ".join(f"{theirs} where the model has {ours}" for theirs, ours in sorted(self.sizes))
        return [f"arrays are of a model of other sizes, {sizes}", *_first(lines, 3)]


def _blocks(names: Sequence[str], others: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """The blocks, as ``"h.3."``, of which there are several of the names and none of the others, with their number;
    and the rest of the names."""
    blocks = Counter(map(_block, names))
    whole = {block: n for block, n in blocks.items() if block and n > 3}
    for name in others:
        whole.pop(_block(name), None)
    return whole, [name for name in names if _block(name) not in whole]


def _block(name: str) -> str:
    """The beginning of a name with the first number in it."""
    match = re.match(r"(.*?\.)??\d+\.", name)
    return match[0] if match else ""


def _printable(name: str) -> str:
    """A name that a file has, in one line and without what a terminal takes for commands."""
    return name if name.isprintable() and len(name) < 300 else f"{name!r:.300}"


def _reason(name: str) -> str:
    if re.search(r"(^|\.)weight_hr_l\d+(_reverse)?$", name):
        return "it is the projection of an LSTM with proj_size, nn.ProjectedLSTMCell"
    return "map it to ignored if it has no place"


class _Prefix(NamedTuple):
    """That many names differ from those of arrays by one prefix."""

    text: str
    in_arrays: bool  # or in the names of the map
    names: frozenset[str]  # of the map

    def others(self, missing: Sequence[str], unexpected: Sequence[str]) -> tuple[list[str], list[str]]:
        """The names and those of arrays that do not differ by it."""
        explained = {self.text + name if self.in_arrays else name[len(self.text) :] for name in self.names}
        return [n for n in missing if n not in self.names], [n for n in unexpected if n not in explained]

    def advice(self, missing: int, found: int) -> str:
        count = len(self.names)
        which = f"all {count} names" if count == missing and not found else f"{count} names"
        some = "names" if count == missing and not found else "those"
        if self.in_arrays:
            return f"{which} are in arrays with the prefix {self.text!r}; use under({some}, {self.text!r})"
        return f"{which} are in arrays without the prefix {self.text!r}; use renamed({some}, {{{self.text!r}: ''}})"


def _prefix(missing: Collection[str], unexpected: Collection[str]) -> _Prefix | None:
    """The prefix by which most of the missing names differ from unexpected ones, if there is one."""
    found: dict[tuple[str, bool], set[str]] = {}
    for names, others, in_arrays in ((set(unexpected), set(missing), True), (set(missing), set(unexpected), False)):
        for name in names:
            for match in re.finditer(r"\.", name):
                text, rest = name[: match.end()], name[match.end() :]
                if rest in others:
                    found.setdefault((text, in_arrays), set()).add(rest if in_arrays else name)
    if not found:
        return None
    (text, in_arrays), names = max(found.items(), key=lambda item: (len(item[1]), -len(item[0][0])))
    return _Prefix(text, in_arrays, frozenset(names)) if 2 * len(names) >= len(missing) and len(names) > 1 else None


def near(name: str, valid: Iterable[str], which: str = "") -> str:
    """The end of a line about a name that is not there: a similar one that is."""
    found = get_close_matches(name, valid, 1, cutoff=0.8)  # names of one layer each share an end, such as ".weight"
    return f"; did you mean {found[0]!r}{which}?" if found else ""


def _few(lines: Iterable[str], most: int = _MOST_LINES) -> list[str]:
    return _first(folded(list(lines)), most)


def _first(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most + 1 else [*lines[:most], f"and {len(lines) - most} more"]


def folded(lines: Sequence[str]) -> list[str]:
    """Lines that differ in a number alone, as for the blocks of a model, as one.

    >>> print(*folded(["h.0.w: missing", "h.1.w: missing", "h.0.b: float32[3]", "h.3.w: missing"]), sep="\\n")
    h.{0…1, 3}.w: missing
    h.0.b: float32[3]
    """
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for line in dict.fromkeys(lines):
        groups.setdefault(tuple(_NUMBER.split(line)), []).append(_NUMBER.findall(line))
    found = []
    for texts, rows in groups.items():
        # Numbers that are the same in every line, of a block in the names of an array and of its leaf, go together.
        together: dict[tuple[str, ...], list[int]] = {}
        for column in range(len(texts) - 1):
            together.setdefault(tuple(row[column] for row in rows), []).append(column)
        for columns in together.values():
            rows = _without(rows, columns)
        found += ["".join(part for pair in zip(texts, [*row, ""], strict=True) for part in pair) for row in rows]
    return found


def _without(rows: Sequence[list[str]], columns: Sequence[int]) -> list[list[str]]:
    """The rows, of which those that differ in these columns alone are one."""
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        alike.setdefault(tuple(each for column, each in enumerate(row) if column not in columns), []).append(row)
    found = []
    for first, *others in alike.values():
        values = _range({first[columns[0]], *(row[columns[0]] for row in others)}) if others else first[columns[0]]
        found.append([values if column in columns else each for column, each in enumerate(first)])
    return found


def _range(numbers: Collection[str]) -> str:
    """``{0…3, 5}``"""
    runs: list[list[int]] = []
    for number in sorted(map(int, numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(numbers) == 1:
        return str(runs[0][0])
    return "{" + ", ".join(f"{run[0]}…{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) + "}"
