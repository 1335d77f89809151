"""Names of rows for where there is little room."""

from collections.abc import Sequence
from typing import Any

from sweeps.table import Row


def short_names(records: Sequence[dict[str, Any]], found: Sequence[Row]) -> tuple[str, list[str]]:
    """The backbone where all `records` have the same one, and the names of their rows, then without it."""
    backbones = {record["backbone"] for record in records}
    if len(backbones) > 1:
        return "", [row.name for row in found]
    (backbone,) = backbones
    return backbone, [_without(backbone, row.name) for row in found]


def _without(backbone: str, name: str) -> str:
    """`resnet20_sic` is `sic`, `resnet20 optimizer.lr=1` is `plain optimizer.lr=1`."""
    rest = name.removeprefix(backbone)
    return rest[1:] if rest.startswith("_") else f"plain{rest}" if rest != name else name
