"""Wrong answers to the assignments, one module each; `test_assignments.py` says what they are for."""
