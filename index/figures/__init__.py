"""What an administrator wants to know of the archive: counts, sizes, and how much came when."""
