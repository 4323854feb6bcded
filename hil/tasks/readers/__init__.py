"""Readers: pictures and their labels, masks or boxes, from the formats people keep them in."""
