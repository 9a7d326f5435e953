"""The tables of the ledger and the steps that brought them to their present form."""

from collections.abc import Callable

import sqlalchemy as sa

from dpfusion_core.errors import LedgerError
from dpfusion_core.ledger.chain import GENESIS

# Serialises the making and the migration of the tables on a PostgreSQL server: an arbitrary number.
ADVISORY_LOCK = 0x6470_6675_7369

metadata = sa.MetaData()

# One row. Writers lock it, so that there is one at a time.
meta = sa.Table(
    "dpfusion_meta",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("key_fingerprint", sa.String(32), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("head", sa.String(64), nullable=False),
    sa.Column("time", sa.String(32), nullable=False),
)

accounts = sa.Table(
    "dpfusion_accounts",
    metadata,
    sa.Column("unit", sa.String(64), primary_key=True),
    sa.Column("epsilon", sa.Double, nullable=False),
    sa.Column("delta", sa.Double, nullable=False),
    sa.Column("opened_epsilon", sa.Double, nullable=False),
    sa.Column("opened_delta", sa.Double, nullable=False),
    sa.Column("accounting", sa.String(16), nullable=False),
    sa.Column("neighbours", sa.String(16), nullable=False),
    sa.Column("shares", sa.Integer, nullable=False),
    sa.Column("release_share", sa.Double, nullable=False),
    sa.Column("release_spent", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,  # rows lie in the order of their units, in which they are examined
)

balances = sa.Table(
    "dpfusion_balances",
    metadata,
    sa.Column("unit", sa.String(64), primary_key=True),
    sa.Column("renyi_order", sa.Double, primary_key=True),
    sa.Column("budget", sa.BigInteger, nullable=False),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("is_open", sa.Boolean(create_constraint=False), nullable=False),
    sqlite_with_rowid=False,
)

log = sa.Table(
    "dpfusion_log",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("unit", sa.String(64), nullable=False),
    sa.Column("reservation", sa.String(32), nullable=True, index=True),
    sa.Column("amounts", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)

# The log only grows. Triggers stop accidents; against intent there is the chain of hashes.
_TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER dpfusion_log_no_{action} BEFORE {action.upper()} ON dpfusion_log "
        "BEGIN SELECT RAISE(ABORT, 'the log of a ledger only grows'); END"
        for action in ("update", "delete")
    ],
    "postgresql": [
        "CREATE FUNCTION dpfusion_log_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the log of a ledger only grows'; END $$",
        "CREATE TRIGGER dpfusion_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON dpfusion_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION dpfusion_log_only_grows()",
    ],
}


_RELEASES = ("release_share", "release_spent")  # columns since version 3


def _first(connection: sa.Connection) -> None:
    # When a migration changes the tables, those of this one must be frozen here: it describes version 1.
    first = sa.MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(first)
    columns = [
        sa.Column(each.name, each.type, primary_key=each.primary_key, nullable=False)
        for each in accounts.c
        if each.name not in _RELEASES
    ]
    first.remove(first.tables[accounts.name])
    sa.Table(accounts.name, first, *columns, sqlite_with_rowid=False)
    first.create_all(connection, checkfirst=False)
    for statement in _TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def _normal_ids(connection: sa.Connection) -> None:
    # Version 1 hashed ids as callers spelt them, and a hash does not tell the id. An account under another
    # spelling would not be found, and its unit would get a second budget.
    if connection.execute(sa.select(accounts.c.unit).limit(1)).first() is not None:
        raise LedgerError(
            "The ledger was written by an older dpfusion, which took spellings of an id (HR/cv-3, hr/cv-3) "
            "for different units. Its accounts cannot be matched with the ids of today. Read it with the "
            "version that wrote it, keep it, and begin a new ledger under another name, where you open "
            "every unit's account with what it has left: dpfusion ledger budget."
        )


def _releases(connection: sa.Connection) -> None:
    # An account of version 2 has all of its delta for the conversion: none is left for releases.
    for name in _RELEASES:
        kind = accounts.c[name].type.compile(connection.dialect)
        added = f"ALTER TABLE {accounts.name} ADD COLUMN {name} {kind} DEFAULT 0 NOT NULL"
        connection.exec_driver_sql(added)


# What brings a ledger from version n to n + 1, in order. Never change or remove one that was released.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first, _normal_ids, _releases)


def read_version(connection: sa.Connection) -> tuple[int, str] | None:
    """Return schema version and key fingerprint of a ledger; None if there is no ledger."""
    if not sa.inspect(connection).has_table(meta.name):
        return None
    row = connection.execute(sa.select(meta.c.schema_version, meta.c.key_fingerprint)).first()
    return None if row is None else (row.schema_version, row.key_fingerprint)


def migrate(connection: sa.Connection, version: int, fingerprint: str) -> None:
    """Bring a ledger of a version (0: none yet) to the present one, within the caller's transaction."""
    for step in MIGRATIONS[version:]:
        step(connection)
    values = {"schema_version": len(MIGRATIONS)}
    if version == 0:
        first = {"id": 1, "key_fingerprint": fingerprint, "seq": 0, "head": GENESIS, "time": ""}
        connection.execute(sa.insert(meta).values(**first, **values))
    else:
        connection.execute(sa.update(meta).values(**values))
