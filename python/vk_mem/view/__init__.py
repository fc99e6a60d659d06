"""Draws memory: what each heap, memory type, pool and block contains, and where it is free.

    vk_mem.view.html(allocator, "memory.html")      # a page to search, zoom and filter
    vk_mem.view.svg(allocator, "memory.svg")
    vk_mem.view.png("before.json", "leak.png", other="after.json")

A source is anything that `vk_mem.load_dump` reads, a `Dump`, or a live `Allocator`. With a second
source the picture shows what changed from the first to the second.
"""

from vk_mem.dump.summary import diff_summary_html, summary_html
from vk_mem.view.draw import html, png, svg

__all__ = ["diff_summary_html", "html", "png", "summary_html", "svg"]
