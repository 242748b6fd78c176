"""Text in the cells of tables: what a spreadsheet would take for a formula gets an apostrophe before it, as spreadsheets do."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell_of(text: str) -> str:
    """The cell that holds `text` and that no spreadsheet computes; numbers stay as they are."""
    return f"'{text}" if _begins_formula(text) and not is_number(text) else text


def text_of(cell: str) -> str:
    """The text that `cell_of`, or a spreadsheet, put into a cell."""
    return cell[1:] if cell[:1] == "'" and _begins_formula(cell) else cell


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _begins_formula(text: str) -> bool:
    return text.lstrip("'")[:1] in _FORMULA if text else False
