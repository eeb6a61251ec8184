"""What is asked with: a study, from the files a client sends or from the archive."""

from .archived import read_archived_study
from .asked_film import AskedFilm, read_asked_film
from .study import QueryStudy
from .uploads import Upload, read_study

__all__ = ["AskedFilm", "QueryStudy", "Upload", "read_archived_study", "read_asked_film", "read_study"]
