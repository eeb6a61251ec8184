"""What others send to: C-STORE and MLLP."""
