"""`python -m vk_mem.cli`, where the command is not on the path."""

from vk_mem.cli import main

main()
