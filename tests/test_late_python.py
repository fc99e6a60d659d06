"""The Python half during interpreter shutdown, when imports fail."""

from __future__ import annotations

import pytest
from support import run_python

CALLS = {
    "texts": "str(dump), repr(dump), str(found), repr(found), str(leaks), repr(leaks)",
    "pages for notebooks": "leaks._repr_html_(), budgets._repr_html_()",
    "tables": "str(budgets), str(leaks.groups())",
    "reading": "vk_mem.load_dump(text), vk_mem.load_dump(parsed), vk_mem.load_dump('{}' + text)",
    "comparing": "vk_mem.diff(text, parsed), vk_mem.diff(dump, dump)",
    "handles": "interop.to_int(ctypes.c_void_p(5)), interop.to_int(None)",
    "structs": "interop.struct_address(struct, 'VkBufferCreateInfo', 8)",
    "addresses": "interop.is_struct_at(5, 'VkBufferCreateInfo', 8, 12)",
    "flags": "vk_mem.BufferUsage(0x1234), vk_mem.Format(37), repr(vk_mem.ImageUsage(3))",
    "debug": "vk_mem.Debug(margin=16, quarantine='3 frames')",
    "retention": "vk_mem.EmptyBlockRetention(count=1)",
    "errors": "vk_mem.OutOfDeviceMemoryError('x', size=1)",
    "measurements": "str(measured), repr(measured), measured.profile",
    "moves": "str(moved), repr(moved), moved._asdict()",
    "losses": "str(figures), repr(lost), figures.evictions, lost.touch()",
    "recordings": "repr(ring), repr(recording), recording.closed, recording.events",
    "transfers": "repr(done), done.result(), done.exception(), str(done_so_far)",
}
LOADED = {
    "summaries": "dump._repr_html_(), found._repr_html_()",
    "pictures": "vk_mem.view.svg(dump), vk_mem.view.html(dump, other=dump)",
}
START = """
import ctypes, json, vk_mem
from vk_mem import interop
allocator = vk_mem.Allocator(vk_mem.SimulatedDevice("discrete-8gib"), track_call_sites=True)
with vk_mem.statistics(allocator, profile=True) as measured:
    with allocator.create_buffer(64, vk_mem.BufferUsage.VERTEX_BUFFER, name="x"):
        text = allocator.build_stats_string()
        leaks, budgets = allocator.leaks(), allocator.heap_budgets()
    transfers = vk_mem.Transfers(allocator, 1 << 16)
    with allocator.create_buffer(64, vk_mem.BufferUsage.TRANSFER_DST) as target:
        done = transfers.upload(bytes(64), target)
        done_so_far = transfers.stats()
        transfers.close()
    with allocator.create_buffer(64, vk_mem.BufferUsage.VERTEX_BUFFER, movable=True):
        moved = allocator.defragment()
    ring = vk_mem.Ring(100)
    with vk_mem.record(allocator, ring) as recording:
        recording.mark("x")
    lost, figures = allocator.create_lost_allocation(), allocator.calculate_statistics()
    allocator.close()
parsed, dump = json.loads(text), vk_mem.load_dump(text)
found = vk_mem.diff(dump, dump)
struct = type("VkBufferCreateInfo", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int * 9)]})()

class Late:
    def __init__(self, call, **names):
        self.call, self.names = compile(call, "late", "eval"), names
    def __del__(self):
        import_is_over = self.sys.meta_path is None
        try:
            eval(self.call, self.names)
            print("done", import_is_over)
        except BaseException as error:
            print(type(error).__name__, error)
import sys
Late.sys = sys
names = "ctypes vk_mem interop text parsed leaks budgets dump found measured struct done"
names = (names + " done_so_far moved lost figures ring recording").split()
names = {it: globals()[it] for it in names}
"""


def late(call: str, before: str = "") -> str:
    """What a call says in a finaliser that runs when all modules are being taken apart."""
    # A cycle of builtins and a module's dict is collected last.
    end = f"\n{before}\nlast = Late({call!r}, **names)\nsys.modules['late'] = last\ndel last\n"
    ran = run_python(START + end)
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    return ran.stdout


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_needs_nothing_else(call: str) -> None:
    assert late(call) == "done True\n"


@pytest.mark.parametrize("call", LOADED.values(), ids=LOADED)
def test_what_was_loaded_before(call: str) -> None:
    assert late(call, before=call) == "done True\n"


@pytest.mark.parametrize(
    ("call", "module"),
    [
        ("dump._repr_html_()", "vk_mem.dump.summary"),
        ("vk_mem.view", "vk_mem.view"),
        ("interop.to_vulkan(5, 'VkBuffer')", "vulkan"),
    ],
)
def test_what_was_never_loaded_says_so(call: str, module: str) -> None:
    expected = f"ImportError {module} cannot be loaded while the interpreter ends: import it before"
    assert late(call) == expected + "\n"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("vk_mem.AllocationCreateInfo(flags='mapped')", "done True"),
        (
            "vk_mem.AllocationCreateInfo(flags='MAPED')",
            "InvalidArgumentError flags: AllocationCreateFlags has no name 'MAPED'",
        ),
        (
            "vk_mem.AllocationCreateInfo(label='x')",
            "TypeError AllocationCreateInfo() got an unexpected keyword argument 'label'; did you "
            "mean name=?",
        ),
    ],
)
def test_names_are_looked_up_then(call: str, expected: str) -> None:
    """What they may have been meant for is found out only where that needs no module."""
    assert late(call) == expected + "\n"


def test_a_png_cannot_be_drawn_then() -> None:
    pytest.importorskip("PIL")
    call = "vk_mem.view.png(dump)"
    expected = "ImportError Pillow cannot draw while the interpreter ends\n"
    assert late(call, before=call) == expected


def test_everything_in_atexit() -> None:
    calls = ", ".join([*CALLS.values(), LOADED["summaries"]])
    ran = run_python(START + f"\nimport atexit\natexit.register(lambda: print(len(({calls}))))\n")
    assert (ran.returncode, ran.stderr) == (0, "") and int(ran.stdout) > 20


def test_an_import_stays_light() -> None:
    """Nothing of pictures, of the command line, or of what only some programs use."""
    heavy = "vk_mem.view vk_mem.cli rich typer numpy PIL http unicodedata importlib.resources"
    program = f"import sys, vk_mem; print([it for it in {heavy.split()} if it in sys.modules])"
    assert run_python(program).stdout == "[]\n"
