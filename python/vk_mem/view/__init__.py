"""Pictures of memory: which heap, type, pool and block holds what, and where it is free.

    vk_mem.view.html(allocator, "memory.html")      # a page to search, zoom and filter
    vk_mem.view.svg(allocator, "memory.svg")
    vk_mem.view.png("before.json", "leak.png", other="after.json")

A source is whatever `vk_mem.dump` takes for a dump: a live `Allocator`, a `Dump`, a path, or JSON
text; of vk-mem, VMA 3 or D3D12MA 2. With a second one the picture shows what changed from the first
to the second.
"""

from vk_mem.dump.summary import diff_summary_html, summary_html
from vk_mem.view.draw import html, png, svg

__all__ = ["diff_summary_html", "html", "png", "summary_html", "svg"]
