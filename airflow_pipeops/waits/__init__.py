"""The wait, for any controller: status, expectation, situation, rulebook, verdict, steadiness."""
