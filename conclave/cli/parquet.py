"""Parquet files of rows, by pyarrow: the only module that knows it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

# By what PostgreSQL calls a column's type; any other one is a text: ids as they are written, JSON and arrays as JSON.
_TYPES: Mapping[str, pa.DataType] = {
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "double precision": pa.float64(),
    "smallint": pa.int64(),
    "integer": pa.int64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
}


class ParquetFile:
    """A file that rows are written to, a row group a batch, in Zstandard. One that ends in an error is not left behind."""

    def __init__(self, path: Path, columns: Sequence[tuple[str, str]]) -> None:
        self._path = path
        self._schema = pa.schema([(name, _TYPES.get(kind, pa.string())) for name, kind in columns])

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a batch."""
        columns = [
            pa.array([_plain(row[field.name], field.type) for row in rows], type=field.type) for field in self._schema
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value as its column holds it."""
    if value is None or kind != pa.string():
        return value if value is None or kind != pa.float64() else float(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
