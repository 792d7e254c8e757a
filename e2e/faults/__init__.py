"""One module a topic; ../faults.py runs them."""
