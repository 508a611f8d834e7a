import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import app


def test_it_answers_for_the_whole_city():
    assert app.answer("/delays/nyc") == (200, {"origin": "NYC", "mean_delay_minutes": 12.5})
