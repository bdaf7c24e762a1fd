"""Row models -> Arrow schemas: which columns a table of such rows has. Used by `racro.storage.artifacts`."""

from __future__ import annotations

import types
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa

from racro.schema import Row
from racro.schema.row import NeutralDefault


def arrow_schema(row_type: type[Row]) -> pa.Schema:
    """The Arrow schema of a row model, with the model's name in its metadata."""
    fields = [_field(name, info.annotation) for name, info in row_type.model_fields.items()]
    return pa.schema(fields, metadata={"racro.row": row_type.__name__})


def differences(found: pa.Schema, row_type: type[Row]) -> list[str]:
    """Names of the columns by which a table's schema is not that of such rows; empty if it is.

    Columns that came later and say nothing by default may be missing.
    """
    wanted = {field.name: field for field in arrow_schema(row_type)}
    there = {field.name: field for field in found}
    later = {
        name
        for name, field in row_type.model_fields.items()
        if name not in there and any(isinstance(mark, NeutralDefault) for mark in field.metadata)
    }
    names = sorted((wanted.keys() - later) | there.keys())
    differing = [n for n in names if n not in wanted or n not in there or not there[n].equals(wanted[n])]
    ordered = [name for name in wanted if name not in later]
    return differing or ([] if ordered == found.names else names)


def _field(name: str, annotation: Any) -> pa.Field:
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (a for a in get_args(annotation) if a is not type(None))
        return pa.field(name, _arrow_type(inner), nullable=True)
    return pa.field(name, _arrow_type(annotation), nullable=False)


def _arrow_type(annotation: Any) -> pa.DataType:
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if annotation in plain:
        return plain[annotation]
    if get_origin(annotation) is Literal:
        return pa.string()
    if get_origin(annotation) is tuple:
        return pa.list_(_field("element", get_args(annotation)[0]).type)  # its elements may be null in any case
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return pa.string()
    if isinstance(annotation, type) and issubclass(annotation, Row):
        return pa.struct([_field(name, info.annotation) for name, info in annotation.model_fields.items()])
    raise TypeError(f"{annotation} has no Arrow type")
