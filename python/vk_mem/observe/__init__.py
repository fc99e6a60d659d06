"""Observes allocators: tables, live resources, measurements, samples for other processes."""
