"""The commands over the registry: ``dlfn check`` and ``dlfn bench``."""
