"""The shaders: GLSL beside the SPIR-V that tools/make_shaders.py made of it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "shaders"
NAMES = [
    f"{what}.{stage}" for what in ("sky", "ground", "tree", "water") for stage in ("vert", "frag")
]


def source(name: str) -> str:
    """The whole GLSL of a shader: what all share, and its own."""
    parts = [(FOLDER / it).read_text(encoding="utf-8") for it in ("scene.glsl", name)]
    return "\n".join(["#version 450", *parts])


def digest(name: str) -> str:
    """Says whether the SPIR-V is that of the GLSL which is there."""
    return hashlib.sha256(source(name).encode()).hexdigest()


def spirv(name: str) -> bytes:
    entries = json.loads((FOLDER / "spirv.json").read_text(encoding="utf-8"))
    return base64.b64decode(entries[name]["spirv"])
