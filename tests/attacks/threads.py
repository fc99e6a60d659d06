"""Random calls from many threads, with contents compared."""

from __future__ import annotations

import random
import threading

from support import check_statistics, totals

from attacks.actions import Worker
from attacks.apart import apart
from attacks.devices import any_allocator, any_device, check_device
from attacks.places import Place
from attacks.registry import Budget, attack

THREADS = 6
STEPS = 150
"""Actions of each thread in a case."""


@attack("threads", short=9)
@apart
def threads(seed: int, budget: Budget) -> None:
    """Calls of every kind from six threads, on one allocator and on several; contents compared."""
    for number, dice in budget.cases(seed):
        with budget.case(seed, number):
            device = any_device(number)
            allocators = [any_allocator(device, dice) for _ in range(dice.choice([1, 1, 2, 3]))]
            places = [Place(it, dice) for it in allocators]
            workers = [
                Worker(places[it % len(places)], random.Random(dice.random()), f"{number}/{it}")
                for it in range(THREADS)
            ]
            at_once(workers)
            for place in places:
                place.end()
                place.allocator.validate()
                check_statistics(place.allocator)
                assert totals(place.allocator).allocation_count == 0
                place.allocator.close()
            check_device(device)
            for worker in workers:
                budget.counted["actions"] += worker.actions


def at_once(workers: list[Worker]) -> None:
    """Runs all of them, and raises what one of them raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(workers))

    def work(worker: Worker) -> None:
        try:
            start.wait()
            for _ in range(STEPS):
                worker.step()
                if failures:
                    break
            worker.end()
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=work, args=(it,)) for it in workers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
