"""One transaction: its writes, parts of it that can be undone alone, and counters that are paid once before the commit."""

import operator
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

Key = tuple[int | str | float, ...]


class Transaction:
    """The writing connection while a transaction is open.

    What a step only adds to a counter, it owes: steps that share a commit pay together, one statement for each row
    that grows. Until then the counter lags behind, so nothing inside a transaction may read what can be owed.
    """

    __slots__ = ("_connection", "_owed", "execute", "executemany")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._owed: list[tuple[str, Key, tuple[float, ...]]] = []
        self.execute = connection.execute
        self.executemany = connection.executemany

    def owe(self, sql: str, key: Key, *amounts: float) -> None:
        """Have `sql` add these amounts to the row of `key` before the commit; it is given their sums, then the key."""
        self._owed.append((sql, key, amounts))

    def insert(self, table: str, values: Mapping[str, object]) -> int:
        """Make a row of values by column, and return its id."""
        marks = ", ".join("?" * len(values))
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
        return self.execute(sql, tuple(values.values())).lastrowid or 0

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """All that the block writes and owes, or, where it raises, nothing of it, while the rest stands."""
        owed = len(self._owed)
        self.execute("SAVEPOINT part")
        try:
            yield
        except Exception as error:
            if not self.spoilt_by(error):
                self.execute("ROLLBACK TO part")
                self.execute("RELEASE part")
                del self._owed[owed:]
            raise
        self.execute("RELEASE part")

    def spoilt_by(self, error: Exception) -> bool:
        """Whether nothing of the transaction can stand: the database itself failed, it did not only refuse a value."""
        return database_failed(error) or not self._connection.in_transaction

    def settle(self) -> None:
        """Pay what is owed; what comes to nothing costs nothing."""
        sums: dict[str, dict[Key, tuple[float, ...]]] = {}
        for sql, key, amounts in self._owed:
            rows = sums.setdefault(sql, {})
            known = rows.get(key)
            rows[key] = amounts if known is None else tuple(map(operator.add, known, amounts))
        self._owed.clear()
        for sql, rows in sums.items():
            self.executemany(sql, [(*amounts, *key) for key, amounts in rows.items() if any(amounts)])


def database_failed(error: Exception) -> bool:
    """Tell a failure of the database itself from a value that it refused, and from any other program's error."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError)


@contextmanager
def begin(connection: sqlite3.Connection) -> Iterator[Transaction]:
    """All of the block with what it owes, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        opened = Transaction(connection)
        yield opened
        opened.settle()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
