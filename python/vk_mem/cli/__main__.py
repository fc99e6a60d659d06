"""`python -m vk_mem.cli`: the command line, if `vk-mem` is not on the path."""

from vk_mem.cli import main

main()
