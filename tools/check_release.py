"""Checks that a tag, the version of the workspace and the changelog agree before a release.

    python3 tools/check_release.py tag v0.2.0 [--notes]
    python3 tools/check_release.py branch main

For a branch, only what holds at any time is checked. `--notes` prints the section of the changelog.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Semantic versioning, without build metadata: the index takes none.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(alpha|beta|rc)\.\d+)?")


def sections(changelog: str) -> dict[str, tuple[str, str]]:
    """Returns the date and the text of each section, by version."""
    parts = re.split(r"^## \[([^\]]+)\](.*)$", changelog, flags=re.MULTILINE)
    return {
        version: (date.strip(" -"), text.strip())
        for version, date, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def problems(kind: str, name: str, version: str, changelog: str) -> list[str]:
    """Returns what keeps a tag, or a branch, from being released."""
    found = []
    if not VERSION.fullmatch(version):
        found.append(f"the version {version} of Cargo.toml is none of semantic versioning")
    known = sections(changelog)
    if "Unreleased" not in known:
        found.append("CHANGELOG.md has no section [Unreleased]")
    if kind != "tag":
        return found
    if name != f"v{version}":
        found.append(f"the tag {name} is not v{version}, the version of Cargo.toml")
    date, text = known.get(version, ("", ""))
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        found.append(f"CHANGELOG.md has no section [{version}] with a date")
    elif not text:
        found.append(f"the section [{version}] of CHANGELOG.md is empty")
    if known.get("Unreleased", ("", ""))[1]:
        found.append("the section [Unreleased] of CHANGELOG.md is not empty")
    return found


def main(arguments: list[str]) -> int:
    """Prints problems and returns 1, or nothing and 0."""
    notes = "--notes" in arguments
    kind, name = (it for it in arguments if it != "--notes")
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    version = cargo["workspace"]["package"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = problems(kind, name, version, changelog)
    for it in found:
        print(f"release: {it}", file=sys.stderr)
    if notes and not found:
        print(sections(changelog)[version][1])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
