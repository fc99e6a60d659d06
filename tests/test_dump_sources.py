"""Sources of dumps: files of every kind, logs, other versions and text encodings."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks.samples import of_vma_2
from support import TRANSFER

import vk_mem
from vk_mem import Allocator, DumpError, SimulatedDevice
from vk_mem.dump import read

# ---- files ----


@pytest.fixture(scope="module")
def text() -> str:
    with (
        Allocator(SimulatedDevice("discrete-8gib")) as allocator,
        allocator.create_buffer(1000, TRANSFER, name="a {name}"),
    ):
        return allocator.build_stats_string()


@pytest.fixture
def odd_files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    files = {"a FIFO": tmp_path / "fifo", "a socket": tmp_path / "socket"}
    os.mkfifo(files["a FIFO"])
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(files["a socket"]))
        files["a character device"] = Path("/dev/zero")
        yield files


def in_time(call: Callable[[], object]) -> BaseException:
    """What a call raises, within seconds."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits"
    (error,) = raised
    return error


@pytest.mark.skipif(os.name == "nt", reason="files of Unix")
def test_other_files_than_regular_ones_are_refused_at_once(
    odd_files: dict[str, Path], tmp_path: Path
) -> None:
    for what, path in odd_files.items():
        link = tmp_path / "link"
        link.symlink_to(path)
        for call in (
            lambda it: vk_mem.load_dump(it),
            lambda it: vk_mem.diff(it, it),
            lambda it: vk_mem.view.svg(it),
            lambda it: vk_mem.view.html(str(it)),
        ):
            for it in (path, link):
                error = in_time(lambda call=call, it=it: call(it))
                assert isinstance(error, DumpError), error
                assert f"a regular file is expected, not {what}" in str(error)
        link.unlink()
    assert isinstance(in_time(lambda: vk_mem.load_dump(tmp_path)), IsADirectoryError)


def test_a_file_is_read_up_to_a_limit(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(text.encode())
    monkeypatch.setattr(read, "LARGEST_FILE", len(text.encode()))
    assert vk_mem.load_dump(path).total.allocation_count == 1
    path.write_bytes(text.encode() + b" ")
    with pytest.raises(DumpError, match="no dump is larger"):
        vk_mem.load_dump(path)
    # One whose size is 0 until it is read.
    monkeypatch.setattr(read, "LARGEST_FILE", 10)
    if os.path.exists("/proc/self/status"):
        with pytest.raises(DumpError, match="no dump is larger"):
            vk_mem.load_dump("/proc/self/status")


# On Windows half a pair of surrogates is the name of a file that may exist.
HALF_A_PAIR = pytest.param(
    "\ud800", marks=pytest.mark.skipif(os.name == "nt", reason="a name of a file on Windows")
)


@pytest.mark.parametrize("path", [HALF_A_PAIR, "a\0b", "", " ", "x" * 5000])
def test_texts_that_are_no_path(path: str) -> None:
    with pytest.raises(DumpError, match="neither JSON nor a path"):
        vk_mem.load_dump(path)


# ---- logs ----

LINES = "2026-01-01 [INFO] started {pid: 7}\n[WARN] memory is low: {}\n"


def test_a_dump_is_found_in_a_log(text: str, tmp_path: Path) -> None:
    pretty = json.dumps(json.loads(text), indent=2, sort_keys=True)
    for body in (text, pretty):
        for before in ("", LINES, '{"level": "info"}\n', "[1, 2]\n", LINES + "dump: "):
            for after in ("", "\n", "\0", "\n" + LINES, '\n{"level": "info"}\n'):
                log = before + body + after
                if "\n" in before or not before:
                    assert vk_mem.load_dump(log).total.allocation_count == 1
                assert vk_mem.load_dump(log.encode()).total.allocation_count == 1
                path = tmp_path / "program.log"
                path.write_text(log)
                assert vk_mem.load_dump(path).total.allocation_count == 1


def test_the_last_whole_dump_counts(text: str) -> None:
    other = text.replace("a {name}", "another")
    for log in (text + LINES + other, LINES + text + other + LINES + text[:-40]):
        ((_, _, region),) = vk_mem.load_dump(log).allocations()
        assert region.name == "another"


def test_an_error_says_where_a_brace_begins(text: str) -> None:
    with pytest.raises(DumpError, match=r"a log; a { begins at line 3, column 7\)"):
        vk_mem.load_dump(LINES + "dump: " + text[:-50])
    with pytest.raises(DumpError, match=r"a log; a { begins at line 1, column 27\)"):
        vk_mem.load_dump(LINES)
    with pytest.raises(DumpError, match=r"no \{ in it"):
        vk_mem.load_dump(b"only words\nin lines\n")
    with pytest.raises(DumpError, match=r"line \d+, column \d+: "):
        vk_mem.load_dump(text[:-50])


def test_a_log_full_of_beginnings_costs_little() -> None:
    error = in_time(lambda: vk_mem.load_dump(b'x {"General": [' * 200_000))
    assert isinstance(error, DumpError)


# ---- VMA 2 ----


def test_a_dump_of_vma_2_is_read() -> None:
    dump = vk_mem.load_dump(json.dumps(of_vma_2()))
    assert dump.detailed and dump.api == "Vulkan"
    assert (dump.total.block_count, dump.total.allocation_bytes) == (3, 5000)
    assert (dump.total.block_bytes, dump.total.allocation_size_max) == (73728, 4096)
    heap, empty = dump.heaps
    assert (heap.name, heap.size, heap.budget, heap.usage) == (
        "Heap 0", 1 << 30, 900 << 20, 100_000,
    )  # fmt: skip
    assert [it.name for it in heap.memory_types] == ["Type 0", "Type 1"]
    assert heap.memory_types[1].flags == ("HOST_VISIBLE", "HOST_COHERENT")
    assert (empty.budget, empty.figures.block_count) == (None, 0)
    titles = [(pool.title, len(pool.blocks), len(pool.dedicated)) for pool in dump.pools]
    assert titles == [
        ("Type 0", 1, 1), ("Type 1", 0, 1), ("Type 0, pool 0 - textures", 1, 0),
    ]  # fmt: skip
    assert dump.pools[2].flags == ("LINEAR_ALGORITHM",)
    found = {(it.name, it.custom_data, it.size, it.usage) for _, _, it in dump.allocations()}
    assert found == {
        ("mesh", "mesh", 1000, 130),
        (None, None, 536, 4),
        ("target", "target", 3448, 0),
        (None, None, 5, 0),
        (None, "0x55d0c8a0", 16, 0),
    }
    assert "mesh" in vk_mem.view.svg(dump)
    assert len(vk_mem.diff(of_vma_2(), of_vma_2()).in_both) == 5


def test_the_summary_of_vma_2_is_read() -> None:
    dump = vk_mem.load_dump("log\n" + json.dumps(of_vma_2(detailed=False)))
    assert not dump.detailed and dump.total.allocation_count == 4
    assert dump.heaps[0].memory_types[0].figures.unused_range_count == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Total": {"UsedBytes": 1}}, "Total.UnusedBytes|Total: UnusedBytes"),
        ({"Heap 0": []}, "Heap 0: an object"),
        ({"Pools": {"0": {"Blocks": {}}}}, "Pools.0: MemoryTypeIndex is missing"),
        ({"DedicatedAllocations": {"Type 0": [{"Size": 5}]}}, r"Type 0\[0\]: Type is missing"),
        ({"DefaultPools": {"Type 0": {"Blocks": {"0": {}}}}}, "Blocks.0: Suballocations"),
    ],
)
def test_a_wrong_dump_of_vma_2_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DumpError, match=said):
        vk_mem.load_dump(of_vma_2() | change)


# ---- texts ----


def with_surrogates(text: str) -> dict[str, Any]:
    """Lone halves in everything that a dump says of an allocator with one allocation."""
    of: dict[str, Any] = json.loads(text.replace("a {name}", "half \\ud800"))
    of["General"]["GPU"] = "GPU \udfff"
    of["General"]["k\ud800"] = "\udc00"
    (heap, *_) = of["MemoryInfo"]
    of["MemoryInfo"][heap]["Flags"] = ["\ud800"]
    of["MemoryInfo"]["Heap \ud834"] = of["MemoryInfo"].pop(heap)
    for pool in of["DefaultPools"].values():
        for block in pool["Blocks"].values():
            for region in block["Suballocations"]:
                region["CustomData"] = "\udead"
                region["Type"] += "\udead"
    return of


def test_lone_surrogates_break_no_output(text: str, capsysbinary: Any) -> None:
    from vk_mem.cli import dumps as commands
    from vk_mem.cli.output import out, print_json

    of = with_surrogates(text)
    dump = vk_mem.load_dump(of)
    assert "half \N{REPLACEMENT CHARACTER}" in {it.name for _, _, it in dump.allocations()}
    assert dump == vk_mem.load_dump(json.dumps(of)) == vk_mem.load_dump(json.dumps(of).encode())
    found = vk_mem.diff(text, of)
    made = [repr(dump), repr(found), dump._repr_html_(), found._repr_html_()]
    made += [vk_mem.view.svg(dump, title="\ud800"), vk_mem.view.html(dump, title="\ud800")]
    made += [vk_mem.view.svg(text, other=of), vk_mem.view.html(text, other=of)]
    for it in made:
        it.encode()
    vk_mem.view.png(dump, title="\ud800")
    commands.print_dump(dump, 9)
    commands.print_diff(found, 9)
    print_json(commands.dump_json(dump, 9))
    out.file.flush()
    assert b"half" in capsysbinary.readouterr().out
    of["Total"]["BlockCount"] = "\ud800"
    of["MemoryInfo"] = {"\ud800": 5}
    with pytest.raises(DumpError) as caught:
        vk_mem.load_dump(of)
    str(caught.value).encode()


def test_lone_surrogates_in_names_of_a_live_allocator(simulated_allocator: Allocator) -> None:
    half, whole = "half \udcff", "half \N{REPLACEMENT CHARACTER}"
    allocator = simulated_allocator
    pool = allocator.create_pool(memory_type_index=0, name=half)
    with (
        pool,
        allocator.create_buffer(64, TRANSFER, name=half) as buffer,
        allocator.allocate_memory(64, name=half) as memory,
    ):
        many = allocator.create_buffers([64, 64], TRANSFER, names=[half, None])
        assert {buffer.name, memory.name, many[0].name, pool.name} == {whole}
        memory.name = "other " + half
        assert memory.name == "other " + whole
        texts = [str(allocator.leaks()), repr(buffer), repr(pool), allocator.build_stats_string()]
        texts += [str(allocator.calculate_statistics()), allocator.leaks()._repr_html_()]
        for it in texts:
            it.encode()
        allocator.destroy_many(many)


# ---- numbers in words ----


def test_one_is_singular(text: str) -> None:
    of = json.loads(text)
    stats = {
        "BlockCount": 1, "BlockBytes": 1, "AllocationCount": 1, "AllocationBytes": 1,
        "UnusedRangeCount": 0,
    }  # fmt: skip
    of["Total"] = stats
    dump = vk_mem.load_dump(of)
    assert repr(dump).endswith("1 allocation of 1 byte in 1 block of 1 byte>")
    with Allocator(SimulatedDevice("discrete-8gib")) as allocator:
        heap = vk_mem.BufferHeap(allocator, vk_mem.BufferUsage.VERTEX_BUFFER)
        piece = heap.allocate(1)
        assert "1 byte at" in repr(piece) and "1 byte in 1 buffer>" in repr(heap)
        assert "1 live object>" in repr(allocator)
        piece.free()
        heap.close()
        with allocator.create_buffer(1, TRANSFER, name="x") as buffer:
            assert "1 byte" in repr(buffer) and "1 bytes" not in repr(buffer)
            for call in (lambda: buffer.read(5, 1), lambda: buffer.read(0, 2)):
                with pytest.raises(vk_mem.VkMemError) as caught:
                    call()
                assert "1 bytes" not in str(caught.value)
        with pytest.raises(
            vk_mem.FeatureNotPresentError,
            match=r"the resource allows types [0-9 ]+, memory_type_bits allows no type;",
        ):
            allocator.allocate_memory(64, memory_type_bits=1 << 31)
    with vk_mem.VirtualBlock(10) as block:
        block.allocate(1)
        assert repr(block) == "<vk_mem.VirtualBlock tlsf, 1 of 10 in 1 allocation>"
        block.clear()


def test_nouns_have_their_article() -> None:
    with Allocator(SimulatedDevice()) as allocator:
        with pytest.raises(TypeError, match="buffer_usage is an ImageUsage; it takes BufferUsage"):
            allocator.create_buffer(64, vk_mem.ImageUsage.SAMPLED)
        with pytest.raises(TypeError, match="size is an AllocationCreateFlags; it takes a number"):
            allocator.create_buffer(vk_mem.AllocationCreateFlags.MAPPED, TRANSFER)
