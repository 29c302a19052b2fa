"""One thread for every number and several numbers at once, so that no digit depends on the number of processors."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

import torch
from threadpoolctl import threadpool_limits

_processors = ContextVar("processors", default=None)


@contextmanager
def one_thread():
    """Within, torch and BLAS compute every number with one thread; `in_order` still works on as many items at once as
    there were threads before."""
    before, outer = torch.get_num_threads(), _processors.set(processors())
    try:
        with threadpool_limits(1):
            torch.set_num_threads(1)
            yield
    finally:
        torch.set_num_threads(before)
        _processors.reset(outer)


def processors():
    """How many threads this process may use: those of torch, or of torch before `one_thread`."""
    return _processors.get() or torch.get_num_threads()


def in_order(function, items):
    """Yield function(item) for every item in order: each computed with one thread, `processors()` items at a time."""
    at_once, before, items = processors(), torch.get_num_threads(), iter(items)
    if at_once == 1:
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while group := list(islice(items, at_once)):
                yield from pool.map(function, group)
    finally:
        torch.set_num_threads(before)
