"""Rows that belong to one other row, fetched with it: one row with an array, not a row each.

SQLite's driver gives Python's lock away at every row it fetches. Where many searches run at once, taking it back costs
more than the row.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["rows_of"]


class rows_of(FunctionElement[Any]):  # noqa: N801, a function of SQL
    """``rows_of(*columns)``: an aggregate, the rows as lists, in no order; None or empty where there are none."""

    name = "rows_of"
    type = sa.JSON()
    inherit_cache = True


@compiles(rows_of)
def _on_postgresql(element: rows_of, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_agg(json_build_array({compiler.process(element.clauses, **named)}))"


@compiles(rows_of, "sqlite")
def _on_sqlite(element: rows_of, compiler: SQLCompiler, **named: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **named)}))"
