"""Helpers in Python around allocations: buffer slices, virtual allocations, block retention."""
