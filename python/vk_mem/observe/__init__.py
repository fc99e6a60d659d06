"""Looking at an allocator: tables, leaks, counts of some code, samples for other processes."""
