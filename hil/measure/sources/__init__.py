"""Readers of power sources, one file each: raw stamped lines in, samples per rail out."""
