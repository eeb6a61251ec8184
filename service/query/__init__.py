"""What is asked with: a study, from the files a client sends."""

from .uploads import QueryStudy, Upload, read_study

__all__ = ["QueryStudy", "Upload", "read_study"]
