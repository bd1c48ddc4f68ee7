"""FileStore: sessions in the files of one directory, for many processes on one machine.

`store` has the nine methods, `formats` what is in a file, `directory` how files are written without
losing or following anything, `root` that the directory is private and still the same one, and
`cleaning` how expired files are removed without a cron job.
"""

from .store import FileStore

__all__ = ["FileStore"]
