"""Options that help to find a program's faults, and how the environment says them."""
