"""A table inside a Markdown file that people write: between a line that names its folders, and a line that ends it."""

import re
from collections.abc import Sequence
from pathlib import Path

BLOCK = re.compile(r"^<!-- report: (?P<folders>.+?) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE)


def embedded(table: str, path: Path, folders: Sequence[str]) -> str:
    """The content of the file at `path` with `table` in the block of `folders`; `table` alone where it has no blocks.

    ValueError where it has blocks, and none of these folders.
    """
    text, name = path.read_text(), " ".join(folders)
    blocks = [match["folders"] for match in BLOCK.finditer(text)]
    if not blocks:
        return table
    if name not in blocks:
        raise ValueError(f"{path} has a place for the report of {', '.join(blocks)}, and none for that of {name}")

    def filled(match: re.Match[str]) -> str:
        return f"<!-- report: {name} -->\n\n{table}\n\n<!-- end -->" if match["folders"] == name else match[0]

    return BLOCK.sub(filled, text)
