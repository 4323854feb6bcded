"""Copies of the repository's YAML files, so that an installed `hil` works in any folder."""
