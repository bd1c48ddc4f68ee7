"""Sessions in a SQL database: PostgreSQL, MariaDB, MySQL or SQLite, through SQLAlchemy 2.

`store` has the nine methods; `fields` what differs between databases; `schema` the table;
`statements` the SQL; `connections` the connections, and how errors are handled; `forks` what
becomes of SQLite's at a fork; `failures` what an error means and how much of it may be shown;
`urls` turns a URL into an engine; `health` is what the doctor looks at. Nothing of SQLAlchemy's ORM
is used, and no session or transaction of the app's.
"""

try:
    import sqlalchemy as _sqlalchemy
except ModuleNotFoundError as _error:
    if _error.name != "sqlalchemy":
        raise
    raise ModuleNotFoundError(
        "SQLStore needs SQLAlchemy 2; run pip install 'wsgi-sessions[sql]', or [postgresql] or"
        " [mysql] in place of [sql], which bring the driver too",
        name="sqlalchemy",
    ) from _error

from .health import examine
from .store import SQLStore
from .urls import schema_for

del _sqlalchemy

__all__ = ["SQLStore", "examine", "schema_for"]
