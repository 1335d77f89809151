"""Text in columns, for the tables that people read."""

from collections.abc import Iterable, Sequence


def columns(rows: Sequence[Sequence[str]], *, left: int = 0) -> list[str]:
    """One line for each row, every column as wide as its widest cell; the first `left` columns start at the left."""
    widths = column_widths(rows)
    return [row_in_columns(row, widths, left=left) for row in rows]


def column_widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """The width of the widest cell in each column."""
    return [max(map(len, cells)) for cells in zip(*rows, strict=True)]


def row_in_columns(cells: Sequence[str], widths: Sequence[int], *, left: int = 0) -> str:
    """One line, for a table whose rows come one by one."""
    aligned = [
        cell.ljust(width) if place < left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def markdown_line(cells: Iterable[str]) -> str:
    """One line of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
