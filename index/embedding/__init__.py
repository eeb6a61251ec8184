"""The embedding job: what is missing, read ahead, encoded, written behind."""
