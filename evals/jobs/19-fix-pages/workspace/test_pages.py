from pages import page_count, page_of

for items, pages in [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (25, 3)]:
    found = page_count(items, 10)
    assert found == pages, f"{items} items need {pages} pages, not {found}"
assert page_of(0, 10) == 1 and page_of(10, 10) == 2
print("ok")
