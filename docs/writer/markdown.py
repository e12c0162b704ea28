"""Markdown out of values: table cells, tables, docstrings."""


def cell(text: str) -> str:
    """Return text that stays inside one cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def table(*rows: tuple[str, ...]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"


def plain(docstring: str | None) -> str:
    """Return a docstring as Markdown: single back-quotes, no indentation."""
    lines = (docstring or "").replace("``", "`").strip().splitlines()
    return "\n".join(line.strip() for line in lines)
