"""The entries of dlfn's own ops, in the rooms and files of :mod:`dlfn.ops`. Importing a file registers its entries."""
