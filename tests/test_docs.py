"""The documentation: runs the programs of each page as one, and resolves the names it mentions."""

from __future__ import annotations

import enum
import inspect
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contact_sheet
import pytest
from code_blocks import python_blocks, run
from conftest import index_of_the_driver
from gallery import GALLERY, differences, made
from links import public
from PIL import Image
from support import run_python
from systems import needs_descriptors

import vk_mem

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DOTTED = re.compile(r"(vk_mem|[A-Z]\w+)((?:\.[A-Za-z_]\w*)+)(?:\(.*\))?")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def programs() -> Iterator[Any]:
    for page in PAGES:
        blocks = list(python_blocks(text_of(page)))
        if blocks:
            # One that makes a device with a binding needs a driver.
            own_device = any(it.not_run is None and "vkCreateDevice" in it.code for it in blocks)
            marks = [pytest.mark.driver] if own_device else []
            if any("export_fd(" in it.code for it in blocks):
                marks.append(needs_descriptors)
            yield pytest.param(page, blocks, id=page.relative_to(DOCS).as_posix(), marks=marks)


@pytest.mark.parametrize(("page", "blocks"), list(programs()))
def test_programs_of_a_page(
    page: Path,
    blocks: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if request.node.get_closest_marker("driver"):
        index_of_the_driver()
    monkeypatch.chdir(tmp_path)
    run(blocks, str(page))
    # Each picture of a page was drawn by its programs.
    for name in PICTURE.findall(text_of(page)):
        assert (tmp_path / name).stat().st_size > 0, f"no program of {page.name} wrote {name}"


def is_a_call(code: str) -> bool:
    """Whether it is something of the package that a program or a shell can call."""
    if code.startswith("vk-mem "):
        return True
    found = re.fullmatch(r"([A-Za-z_][\w.]*)(?:\(.*\))?", code.removeprefix("vk_mem."))
    member = f".{found[1].split('.')[-1]}" if found else ""
    return found is not None and any(it == found[1] or it.endswith(member) for it in public())


@pytest.mark.parametrize(
    "page",
    [it for it in PAGES if it.parent.name == "features" and it.name != "index.md"],
    ids=lambda it: it.stem,
)
def test_a_page_begins_with_the_question_that_it_answers(page: Path) -> None:
    _, question, answer = text_of(page).split("\n\n")[:3]
    assert re.fullmatch(r"\*[A-Z][^*]+\?\*", question), question
    first_two = " ".join(re.split(r"(?<=\.)\s+", answer)[:2])
    assert any(is_a_call(code) for code in CODE.findall(first_two)), first_two


def relative_texts() -> dict[str, str]:
    return {page.relative_to(DOCS).as_posix(): text_of(page) for page in PAGES}


def test_the_gallery_shows_each_picture_once() -> None:
    pages = relative_texts()
    assert len(made(pages)) >= 14
    assert differences(pages) == []


@pytest.mark.parametrize("change", ["left out", "twice", "new"])
def test_a_picture_that_the_gallery_lacks_is_named(change: str) -> None:
    pages = relative_texts()
    line = next(it for it in pages[GALLERY].splitlines() if "(features/ring.svg)" in it)
    picture, page, times = "features/ring.svg", "features/pools.md", 0
    if change == "left out":
        pages[GALLERY] = pages[GALLERY].replace(line, "")
    elif change == "twice":
        pages[GALLERY] += line
        times = 2
    else:
        picture, page = "features/new.png", "features/many.md"
        pages[page] += "![Something new](new.png)"
    wrong = f"{GALLERY} shows {picture} of {page} {times} times, not once"
    assert differences(pages) == [wrong]


def test_the_gallery_names_the_page_and_the_call_of_each_picture() -> None:
    pages = relative_texts()
    for picture, page in made(pages).items():
        entry = pages[GALLERY].split(f"({picture})\n")[1].split("\n![")[0]
        assert f"]({page}" in entry, picture
        call = re.search(rf'vk_mem\.view\.(\w+)\([^)"]*"{Path(picture).name}"', pages[page])
        assert call and f"`vk_mem.view.{call[1]}(" in entry, picture


def test_no_picture_is_called_as_a_page() -> None:
    """One of both would be written over the other."""
    pages = relative_texts()
    assert not {Path(it).with_suffix(".html").as_posix() for it in pages} & made(pages).keys()


@pytest.mark.driver
def test_the_renderer_draws_for_the_gallery() -> None:
    index_of_the_driver()
    assert f"({contact_sheet.SHEET})" in text_of(DOCS / GALLERY)
    with Image.open(io.BytesIO(contact_sheet.drawn(ROOT))) as sheet:
        assert sheet.width > 3 * 320 and sheet.height > 4 * 180


def test_most_programs_run() -> None:
    blocks = [block for page in PAGES for block in python_blocks(text_of(page))]
    assert len(blocks) > 80
    assert sum(block.not_run is not None for block in blocks) < 10


def test_every_feature_has_a_page_with_a_program() -> None:
    for page in (DOCS / "features").glob("*.md"):
        if page.name != "index.md":
            assert any(it.not_run is None for it in python_blocks(text_of(page))), page.name


def test_every_page_is_in_the_navigation() -> None:
    navigation = text_of(ROOT / "mkdocs.yml").split("\nnav:\n")[1]
    for page in PAGES:
        assert re.search(rf"\b{re.escape(page.relative_to(DOCS).as_posix())}\n", navigation), page


def names_in_texts() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for code in CODE.findall(text_of(page)):
            if DOTTED.fullmatch(code):
                yield page.name, code


def test_what_is_named_is_there() -> None:
    seen = 0
    for page, code in names_in_texts():
        found = DOTTED.fullmatch(code)
        assert found is not None
        owner = vk_mem if found[1] == "vk_mem" else getattr(vk_mem, found[1], None)
        if owner is None:
            continue
        for name in found[2][1:].split("."):
            assert hasattr(owner, name), f"{page}: {code}"
            owner = getattr(owner, name)
        seen += 1
    assert seen > 100


def in_the_reference() -> set[str]:
    pages = (DOCS / "reference").glob("*.md")
    return {it for page in pages for it in re.findall(r"^::: vk_mem\.(\S+)$", text_of(page), re.M)}


def test_all_that_is_public_is_in_the_reference() -> None:
    shown = in_the_reference()
    for name in vk_mem.__all__:
        thing = getattr(vk_mem, name)
        if inspect.ismodule(thing):
            whole = name in shown
            assert whole or {f"{name}.{it}" for it in thing.__all__} <= shown, name
        elif callable(thing):
            assert name in shown


def test_all_that_is_public_has_a_docstring() -> None:
    for name in vk_mem.__all__:
        thing = getattr(vk_mem, name)
        if not callable(thing):
            continue
        assert inspect.getdoc(thing), name
        if not inspect.isclass(thing) or issubclass(thing, enum.Enum | BaseException):
            continue
        for inner, member in vars(thing).items():
            if not inner.startswith("_") and (callable(member) or inspect.isdatadescriptor(member)):
                # Fields of data classes have theirs beside them, where only the source tells.
                is_field = inspect.ismemberdescriptor(member)
                assert is_field or inspect.getdoc(member), f"{name}.{inner}"


VMA_FUNCTIONS = """
    AllocateDedicatedMemory AllocateMemory AllocateMemoryForBuffer AllocateMemoryForImage
    AllocateMemoryPages BeginDefragmentation BeginDefragmentationPass BindBufferMemory
    BindBufferMemory2 BindImageMemory BindImageMemory2 BuildStatsString
    BuildVirtualBlockStatsString CalculatePoolStatistics CalculateStatistics
    CalculateVirtualBlockStatistics CheckCorruption CheckPoolCorruption ClearVirtualBlock
    CopyAllocationToMemory CopyMemoryToAllocation CreateAliasingBuffer CreateAliasingBuffer2
    CreateAliasingImage CreateAliasingImage2 CreateAllocator CreateBuffer
    CreateBufferWithAlignment CreateDedicatedBuffer CreateDedicatedImage CreateImage CreatePool
    CreateVirtualBlock DestroyAllocator DestroyBuffer DestroyImage DestroyPool
    DestroyVirtualBlock EndDefragmentation EndDefragmentationPass FindMemoryTypeIndex
    FindMemoryTypeIndexForBufferInfo FindMemoryTypeIndexForImageInfo FlushAllocation
    FlushAllocations FreeMemory FreeMemoryPages FreeStatsString FreeVirtualBlockStatsString
    GetAllocationInfo GetAllocationInfo2 GetAllocationMemoryProperties GetAllocatorInfo
    GetHeapBudgets GetMemoryProperties GetMemoryTypeProperties GetMemoryWin32Handle
    GetMemoryWin32Handle2 GetPhysicalDeviceProperties GetPoolName GetPoolStatistics
    GetVirtualAllocationInfo GetVirtualBlockStatistics ImportVulkanFunctionsFromVolk
    InvalidateAllocation InvalidateAllocations IsVirtualBlockEmpty MapMemory SetAllocationName
    SetAllocationUserData SetCurrentFrameIndex SetPoolName SetVirtualAllocationUserData
    UnmapMemory VirtualAllocate VirtualFree
    CalculateStats CreateLostAllocation Defragment DefragmentationBegin DefragmentationEnd
    GetBudget GetPoolStats MakePoolAllocationsLost ResizeAllocation TouchAllocation
"""
"""Of VMA 3.3 and 3.4, and of 2.3 what 3.0 removed."""


@pytest.mark.parametrize("name", VMA_FUNCTIONS.split())
def test_coming_from_vma(name: str) -> None:
    assert f"`vma{name}`" in text_of(DOCS / "from-vma.md")


@pytest.mark.parametrize("flags", [vk_mem.AllocationCreateFlags, vk_mem.MemoryUsage])
def test_every_flag_is_explained(flags: type[enum.Enum]) -> None:
    everything = "".join(text_of(page) for page in PAGES)
    for flag in flags:
        assert flag.name in everything, flag


def test_the_printed_report_of_a_fault_is_what_is_printed(tmp_path: Path) -> None:
    page = text_of(DOCS / "features" / "device-faults.md")
    program = tmp_path / "app.py"
    blocks = [it.code for it in python_blocks(page) if it.not_run is None]
    program.write_text("\n".join(blocks), encoding="utf-8")
    done = run_python(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')")
    shown = page.split("```text\n")[1].split("```")[0]
    assert (done.stdout.replace(f"{tmp_path}{os.sep}", ""), done.stderr) == (shown, "")
