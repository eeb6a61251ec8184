"""Generations of the index: built beside, checked, switched, gone back to, removed."""
