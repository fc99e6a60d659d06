"""Writes `crates/vulkan/src/instance/features/table.txt`, the features of Vulkan, from a `vk.xml`.

    .venv/bin/python tools/features.py [path of a vk.xml]

Without a path that of the package `vulkan-object` is read. A line of the table is a structure: its
`sType`, since which version of Vulkan it may be chained without an extension (`-`: never), the
extensions that have it (`-`: none), and the names of its features in their order.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

TABLE = Path(__file__).parent.parent / "crates/vulkan/src/instance/features/table.txt"
# These gather the features of other structures, which must not stand beside them.
SUMMARIES = {
    "VkPhysicalDeviceVulkan11Features": "1.2",
    "VkPhysicalDeviceVulkan12Features": "1.2",
    "VkPhysicalDeviceVulkan13Features": "1.3",
    "VkPhysicalDeviceVulkan14Features": "1.4",
}


def is_vulkan(element: ET.Element, attribute: str = "api") -> bool:
    """Whether it belongs to Vulkan, and not to Vulkan SC alone."""
    return "vulkan" in element.get(attribute, "vulkan").split(",")


def extension_base(number: int, offset: int) -> int:
    return 1_000_000_000 + (number - 1) * 1000 + offset


def structure_types(root: ET.Element) -> dict[str, int]:
    found: dict[str, int] = {}
    for block in root.findall("enums[@name='VkStructureType']/enum"):
        if block.get("value"):
            found[block.attrib["name"]] = int(block.attrib["value"])
    for owner in [*root.findall("feature"), *root.findall("extensions/extension")]:
        for item in owner.iterfind("require/enum[@extends='VkStructureType']"):
            name = item.attrib["name"]
            if item.get("value"):
                found[name] = int(item.attrib["value"])
            elif item.get("offset"):
                number = int(item.get("extnumber") or owner.attrib["number"])
                found[name] = extension_base(number, int(item.attrib["offset"]))
    return found


def members(structure: ET.Element) -> list[str]:
    """The features of a structure; none where it has something else beside them."""
    found = [it for it in structure.findall("member") if is_vulkan(it)]
    named = [(it.findtext("name", ""), it.findtext("type")) for it in found]
    named = [it for it in named if it[0] not in {"sType", "pNext"}]
    return [name for name, _ in named] if all(it == "VkBool32" for _, it in named) else []


def rank(extension: str) -> tuple[int, str]:
    vendor = extension.split("_")[1]
    return {"KHR": 0, "EXT": 1}.get(vendor, 2), extension


def lines(root: ET.Element) -> list[str]:
    types = structure_types(root)
    structures = [it for it in root.findall("types/type") if it.get("category") == "struct"]
    names_of: dict[str, set[str]] = {}
    for structure in structures:
        name = structure.attrib["name"]
        names_of.setdefault(structure.get("alias", name), set()).add(name)
    since: dict[str, str] = {}
    for version in root.findall("feature"):
        if is_vulkan(version):
            for item in version.iterfind("require/type"):
                since.setdefault(item.attrib["name"], version.attrib["number"])
    owners: dict[str, set[str]] = {}
    for extension in root.findall("extensions/extension"):
        if is_vulkan(extension, "supported"):
            for item in extension.iterfind("require/type"):
                owners.setdefault(item.attrib["name"], set()).add(extension.attrib["name"])
    core = next(it for it in structures if it.attrib["name"] == "VkPhysicalDeviceFeatures")
    found = []
    for structure in structures:
        name = structure.attrib["name"]
        extends = structure.get("structextends", "").split(",")
        if "VkPhysicalDeviceFeatures2" not in extends or not is_vulkan(structure):
            continue
        s_type = types[structure.find("member").attrib["values"]]
        version = SUMMARIES.get(name) or since.get(name, "-")
        names = names_of[name]
        extensions = sorted({it for one in names for it in owners.get(one, ())}, key=rank)
        features = members(structure)
        if (version == "-" and not extensions) or not features:
            continue
        first = rank(extensions[0]) if extensions else (0, "")
        order = (name not in SUMMARIES, version == "-", first)
        line = (str(s_type), version, ",".join(extensions) or "-", *features)
        found.append((order, " ".join(line)))
    return [f"0 1.0 - {' '.join(members(core))}", *(line for _, line in sorted(found))]


def main() -> None:
    if len(sys.argv) > 1:
        source = Path(sys.argv[1])
    else:
        import vulkan_object

        source = Path(vulkan_object.__file__).parent / "vk.xml"
    table = lines(ET.parse(source).getroot())
    TABLE.write_text("\n".join(table) + "\n")
    print(f"{TABLE}: {len(table)} structures")


if __name__ == "__main__":
    main()
