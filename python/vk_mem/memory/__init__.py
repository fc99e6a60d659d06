"""What is made of buffers and blocks in Python: slices of buffers, ranges, retention."""
