"""A table inside a Markdown file that people write: between a line that names its folders, and a line that ends it."""

import re
from collections.abc import Sequence
from pathlib import Path

BLOCK = re.compile(r"^<!-- report: (?P<folders>.+?) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE)


def embedded(table: str, path: Path, folders: Sequence[str]) -> str:
    """The content of the file at `path` with `table` in the block of `folders`.

    ValueError where it has no such block: somebody may have written what is there.
    """
    text, name = path.read_text(), " ".join(folders)
    blocks = [match["folders"] for match in BLOCK.finditer(text)]
    if not blocks:
        raise ValueError(
            f"{path} is there already and would be lost; put the lines <!-- report: {name} --> and <!-- end --> where "
            "the table belongs in it, or choose another out"
        )
    if name not in blocks:
        raise ValueError(f"{path} has a place for the report of {', '.join(blocks)}, and none for that of {name}")

    def filled(match: re.Match[str]) -> str:
        return f"<!-- report: {name} -->\n\n{table}\n\n<!-- end -->" if match["folders"] == name else match[0]

    return BLOCK.sub(filled, text)
