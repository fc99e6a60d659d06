"""Compiles the shaders of examples/renderer with glslangValidator and writes shaders/spirv.json.

Run it with `.venv/bin/python tools/make_shaders.py` after a change of a shader.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from renderer.shaders import FOLDER, NAMES, digest, source  # noqa: E402


def compiled(name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="vk-mem-") as folder:
        given, made = Path(folder, name), Path(folder, "shader.spv")
        given.write_text(source(name), encoding="utf-8")
        command = ["glslangValidator", "-V", "--target-env", "vulkan1.0", given, "-o", made]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{name}: {ran.stdout}{ran.stderr}")
        return made.read_bytes()


def main() -> None:
    entries = {
        name: {"source": digest(name), "spirv": base64.b64encode(compiled(name)).decode()}
        for name in NAMES
    }
    (FOLDER / "spirv.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
