"""`await transfer` takes no thread: the event loop's are free, however long transfers take."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support import TRANSFER

from vk_mem import Allocator, DeviceLostError, SimulatedDevice


@pytest.fixture
def held(simulated: SimulatedDevice) -> Any:
    with Allocator(simulated) as allocator, allocator.create_buffer(64, TRANSFER) as buffer:
        simulated.set_completion("held")
        yield allocator.transfers, buffer
        simulated.complete_submissions()
        simulated.set_completion("at once")


def test_many_in_flight_leave_the_threads_of_the_loop_alone(
    simulated: SimulatedDevice, held: Any
) -> None:
    transfers, buffer = held

    async def work() -> list[Any]:
        begun = [asyncio.ensure_future(transfers.upload(b"a", buffer)) for _ in range(80)]
        await asyncio.sleep(0.05)
        threads = threading.active_count()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "ran"), 10) == "ran"
        assert threads <= before
        assert not any(it.done() for it in begun)
        simulated.complete_submissions()
        return await asyncio.gather(*begun)

    before = threading.active_count()
    assert asyncio.run(work()) == [None] * 80


def test_the_loop_ends_while_a_transfer_is_in_flight(simulated: SimulatedDevice, held: Any) -> None:
    transfers, buffer = held

    async def work() -> Any:
        begun = transfers.download(buffer)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(begun, 0.05)
        return begun

    begun = asyncio.run(work())
    assert not begun.done()
    simulated.complete_submissions()
    assert len(begun.result()) == 64


def test_an_open_batch_is_submitted(simulated: SimulatedDevice, held: Any) -> None:
    transfers, buffer = held

    async def work() -> None:
        with transfers.batch():
            begun = transfers.upload(b"abcd", buffer)
            simulated.set_completion("at once")
            await asyncio.wait_for(begun, 10)

    asyncio.run(work())


def test_what_goes_wrong_is_raised(simulated: SimulatedDevice, held: Any) -> None:
    transfers, buffer = held

    async def work() -> None:
        simulated.fail_next("vkQueueSubmit", vk_result=-4)
        with pytest.raises(DeviceLostError):
            await transfers.upload(b"abcd", buffer)

    asyncio.run(work())
