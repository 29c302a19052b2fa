"""One thread for every number and several numbers at once, so that no digit depends on the number of processors; a
training has a fixed number of threads."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

import torch
from threadpoolctl import threadpool_limits

_processors, _at_first = ContextVar("processors", default=None), 1


@contextmanager
def fixed_threads(number):
    """Within, torch computes every number with so many threads, and BLAS with one; `in_order` still works on as many items
    at once as there were threads before."""
    before, outer = torch.get_num_threads(), _processors.set(processors())
    try:
        with threadpool_limits(1):
            torch.set_num_threads(number)
            yield
    finally:
        torch.set_num_threads(before)
        _processors.reset(outer)


def one_thread():
    """`fixed_threads(1)`, with which no digit depends on the number of processors."""
    return fixed_threads(1)


def keep_to_one_thread():
    """From now on torch computes every number of this process with one thread, as within `one_thread`."""
    global _at_first
    _at_first = processors()
    torch.set_num_threads(1)


def processors():
    """How many threads this process may use: those of torch, or of torch before `fixed_threads` or `keep_to_one_thread`."""
    return _processors.get() or max(_at_first, torch.get_num_threads())


def in_order(function, items):
    """Yield function(item) for every item in order: each computed with one thread, `processors()` items at a time."""
    at_once, before, items = processors(), torch.get_num_threads(), iter(items)
    if at_once == before == 1:
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while group := list(islice(items, at_once)):
                yield from pool.map(function, group)
    finally:
        torch.set_num_threads(before)
