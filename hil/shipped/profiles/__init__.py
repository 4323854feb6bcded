"""Shipped profiles; equal to the repository's `profiles/`."""
