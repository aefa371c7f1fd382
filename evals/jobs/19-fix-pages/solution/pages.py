"""How lists are cut into pages."""


def page_count(items, per_page):
    """The number of pages that hold all items."""
    return (items + per_page - 1) // per_page


def page_of(index, per_page):
    """The page, from 1, on which an item (from 0) stands."""
    return index // per_page + 1
