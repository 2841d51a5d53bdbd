"""Documents of local parquet, JSON Lines and text files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from glob import glob
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from harness.activations.text_spec import Batch, Files, Raise, TextSpec
from harness.errors import UserError
from harness.yaml_file import Location, near, shown

KINDS = (".parquet", ".jsonl", ".txt")
DOCUMENTS = 1000  # of a batch, at most
BYTES = 4_000_000  # of a batch, about
LONGEST = 256_000_000  # bytes of a document
COLUMN = ("text", "column")


def find_files(files: Files, where: Location, error: Raise) -> list[str]:
    """The files that the paths and globs match, sorted for each glob, all of one kind."""
    patterns = [files] if isinstance(files, str) else files
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = sorted(path for path in glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207 - absolute ones, too
        if not matches:
            folder = f": a folder, whose files are {pattern.rstrip('/')}/*" if Path(pattern).is_dir() else ""
            raise error(where, f"expected files, none match {pattern!r}{folder}")
        found.update(dict.fromkeys(matches))
    kinds = sorted({Path(path).suffix for path in found})
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        first = next(path for path in found if Path(path).suffix == unknown[0])
        raise error(where, f"expected files that end in {', '.join(KINDS)}, got {first}")
    if len(kinds) > 1:
        raise error(where, f"expected files of one kind, got {' and '.join(kinds)}")
    return list(found)


class _Record(NamedTuple):
    """A document, and the places in its file where it starts and where the next one does."""

    start: int
    text: str | None
    size: int


class FileDocuments:
    """Documents of files of one kind, in the order of the files. A position is [file, place in it]."""

    def __init__(self, text: TextSpec, files: Files, error: Raise) -> None:
        self._column = text.column or "text"
        self._sample_by = text.sample_by or "document"
        self._files = [Path(path) for path in ([files] if isinstance(files, str) else files)]
        self._error = error

    def read(self, position: Any) -> Iterator[Batch]:
        first, place = position or (0, 0)
        readers = {".parquet": self._parquet, ".jsonl": self._json_lines, ".txt": self._plain}
        for number, file in enumerate(self._files[first:], first):
            records = readers[file.suffix](file, place if number == first else 0)
            try:
                for start, texts in _batches(records):
                    yield Batch([number, start], texts)
            except OSError as failure:
                raise UserError(f"{file}: {failure.strerror or failure}") from None

    def _parquet(self, file: Path, row: int) -> Iterator[_Record]:
        """Records whose places are numbers of rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        column = self._column
        try:
            with pq.ParquetFile(file) as table:
                self._check_column(file, table.schema_arrow.names)
                kind = table.schema_arrow.field(column).type
                is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
                if not any(one(kind) for one in is_text):
                    raise self._error(COLUMN, f"{file}: expected a column of text, {column!r} is of {kind}")
                groups = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
                start = group = 0
                while group < len(groups) and start + groups[group] <= row:
                    start, group = start + groups[group], group + 1
                wanted = range(group, len(groups))
                for rows in table.iter_batches(DOCUMENTS, list(wanted), columns=[column]) if wanted else ():
                    for text in rows.column(0).slice(max(0, row - start)).to_pylist():
                        yield _Record(max(row, start), text, 0 if text is None else len(text))
                        row = max(row, start) + 1
                    start += len(rows)
        except UnicodeDecodeError:
            here = f"rows {max(row, start)} to {start + len(rows) - 1}"
            raise UserError(f"{file}: {here}: expected UTF-8 text in all of them") from None
        except pa.ArrowException as failure:
            raise UserError(f"{file}: not readable as parquet: {str(failure).splitlines()[0]}") from None

    def _json_lines(self, file: Path, place: int) -> Iterator[_Record]:
        """Records whose places are offsets in bytes."""
        column = self._column
        for start, line in _lines(file, place):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise UserError(f"{file}: byte {start}: expected a line with one JSON object")
            if column not in record:
                self._check_column(file, list(record))
            if not isinstance(text := record[column], str | None):
                raise self._error(COLUMN, f"{file}: byte {start}: expected text or null, got {shown(text)}")
            if text is not None:  # JSON may escape half a character (an emoji cut in two): no tokenizer takes that
                text = text.encode("utf-8", "replace").decode("utf-8")
            yield _Record(start, text, len(line))

    def _plain(self, file: Path, place: int) -> Iterator[_Record]:
        """Records whose places are offsets in bytes."""
        sample_by = self._sample_by
        keys = {"line": lambda line: line[0], "paragraph": lambda line: bool(line[1].strip()), "document": bool}
        for _, group in groupby(_lines(file, place), keys[sample_by]):
            lines, size = [], 0
            for start, line in group:
                lines.append((start, line))
                size += len(line)
                if size > LONGEST:
                    raise self._error(
                        ("text", "sample_by"),
                        f"{file}: expected line or paragraph: a document of over {LONGEST:,} bytes is too long",
                    )
            try:
                text = b"".join(line for _, line in lines).decode("utf-8-sig" if lines[0][0] == 0 else "utf-8")
            except UnicodeDecodeError:
                raise UserError(f"{file}: byte {lines[0][0]}: expected UTF-8 text") from None
            yield _Record(lines[0][0], text if sample_by == "document" else text.strip("\r\n"), size)

    def _check_column(self, file: Path, names: list[str]) -> None:
        if self._column not in names:
            message = f"{file}: expected a column of the text, there is none {self._column!r}"
            raise self._error(COLUMN, message + near(self._column, names))


def _lines(file: Path, place: int) -> Iterator[tuple[int, bytes]]:
    """Lines from an offset on, with the offset of each."""
    with file.open("rb") as opened:
        opened.seek(place)
        for line in opened:
            yield place, line
            place += len(line)


def _batches(records: Iterator[_Record]) -> Iterator[tuple[int, list[str | None]]]:
    """Texts, some at a time, with the place of the first."""
    start, size = 0, 0
    texts: list[str | None] = []
    for record in records:
        if not texts:
            start = record.start
        texts.append(record.text)
        size += record.size
        if len(texts) == DOCUMENTS or size >= BYTES:
            yield start, texts
            texts, size = [], 0
    if texts:
        yield start, texts
