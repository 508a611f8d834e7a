import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import app


def test_it_is_healthy():
    assert app.answer("/healthz") == (200, {"status": "ok"})


def test_it_knows_its_version():
    assert app.answer("/version") == (200, {"version": app.VERSION})


def test_it_answers_for_an_airport():
    status, body = app.answer("/delays/jfk")
    assert status == 200
    assert body == {"origin": "JFK", "mean_delay_minutes": 12.1}


def test_it_does_not_make_up_airports():
    assert app.answer("/delays/XXX")[0] == 404


def test_an_unknown_path_is_not_found():
    assert app.answer("/nothing")[0] == 404
