import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pool import Pool


def test_it_hands_out_no_more_than_it_has():
    pool = Pool(size=2)
    assert {pool.acquire(), pool.acquire()} == {0, 1}
    assert pool.acquire() is None


def test_what_is_taken_back_is_handed_out_again():
    pool = Pool(size=1)
    pool.release(pool.acquire())
    assert pool.acquire() == 0
