"""A landscape that is streamed through a small memory budget; see `program.py`."""
