"""Threads: several items at once, each with one thread, and nothing left changed."""

import threading

import pytest
import torch

from lib.threads import in_order, one_thread, processors


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def met_by_two_others(item, meeting):
    meeting.wait(timeout=30)  # raises if not three items are computed at once
    return item, torch.get_num_threads()


def test_as_many_items_at_once_as_there_are_threads_each_with_one():
    meeting = threading.Barrier(3)
    assert list(in_order(lambda item: met_by_two_others(item, meeting), range(6))) == [(i, 1) for i in range(6)]


def test_within_one_thread_numbers_are_computed_with_one_and_items_still_at_once():
    meeting = threading.Barrier(3)
    with one_thread():
        assert torch.get_num_threads() == 1
        found = list(in_order(lambda item: met_by_two_others(item, meeting), range(3)))
        with one_thread():
            assert processors() == 3
        assert torch.get_num_threads() == 1
    assert found == [(0, 1), (1, 1), (2, 1)]


def test_the_number_of_threads_comes_back_after_an_error_and_after_stopping_early():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 / item, [1, 0]))
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == processors() == 3
    items = in_order(lambda item: item, range(9))
    assert next(items) == 0
    items.close()


def test_items_are_taken_as_they_are_needed():
    taken = []
    items = in_order(lambda item: item, (taken.append(item) or item for item in range(9)))
    next(items)
    assert taken == [0, 1, 2]
