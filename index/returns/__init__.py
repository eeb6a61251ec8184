"""Results that go back to where studies came from: who sent what, and what of it is still to be sent."""
