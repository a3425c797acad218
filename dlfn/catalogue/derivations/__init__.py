"""The derivations of the documents' formulas, every step of which is checked by numbers and, where it can be, by SymPy.

``dlfn formulas --derivations`` runs them; :mod:`dlfn.catalogue.derivations.notation` says how one is written.
"""

from dlfn.catalogue.derivations.checking import Checked, check, derivation, derivations, has_sympy
from dlfn.catalogue.derivations.latex import latex
from dlfn.catalogue.derivations.notation import Derivation, Step

__all__ = ["Checked", "Derivation", "Step", "check", "derivation", "derivations", "has_sympy", "latex"]
