"""The commands about training: ``dlfn train`` and what is done with its runs."""
