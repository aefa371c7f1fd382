from stats import average, spread

assert average([]) == 0
found = average([2, 4, 6])
assert found == 4, f"the average of 2, 4 and 6 is 4, not {found}"
assert spread([3, 9, 5]) == 6
print("ok")
