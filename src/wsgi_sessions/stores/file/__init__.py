"""FileStore: sessions in the files of one directory, for many processes of one machine.

`store` has the nine methods, `formats` what is in a file, `directory` how files are written without
losing or following anything, `root` that the directory is private and still the same one, and
`cleaning` how expired files go without a cron job.
"""

from .store import FileStore

__all__ = ["FileStore"]
