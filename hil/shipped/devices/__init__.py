"""Shipped device files; equal to the repository's `devices/`."""
