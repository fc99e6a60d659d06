"""`python -m vk_mem`: the command line, if `vk-mem` is not on the path."""

from vk_mem.cli import main

if __name__ == "__main__":
    main()
