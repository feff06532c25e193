"""Tables of users and items: reading them, and the types of their columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tfrec_meta.data.sources.column_types import with_types
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import read_json_table
from tfrec_meta.data.sources.lists import with_lists
from tfrec_meta.data.sources.text_files import damaged, read_text_table
from tfrec_meta.io.files import PathLike


def attribute_table(
    given: PathLike | pa.Table | None, key: str, source: str, form: FileFormat
) -> pa.Table | None:
    if given is None:
        return None
    if isinstance(given, pa.Table):
        table = given
        path = None
    else:
        path = Path(given)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; check the path.")
        suffix = suffix_of(path)
        if suffix is None:
            raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            try:
                table = with_lists(pq.read_table(path), form.lists)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(damaged(path, error)) from error
        else:
            if suffix in JSON_LINES:
                table = read_json_table(path, form.encoding)
            else:
                table = read_text_table(path, form.text(path))
            table = with_lists(table, form.lists)
    table = with_types(table, form, (key, source), str(path or f"the table with `{key}`"))
    if key not in table.column_names:
        if source not in table.column_names:
            raise ValueError(
                f"{path or 'the table'} has no column `{source}` (for `{key}`), but it has "
                f"{', '.join(table.column_names)}; name it as in the events."
            )
        table = table.rename_columns({source: key})
    return table
