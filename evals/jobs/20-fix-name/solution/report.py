total = 0
best_day, best_count = "", 0
with open("sales.txt") as file:
    for line in file:
        day, count = line.split()
        count = int(count)
        total += count
        if count > best_count:
            best_day, best_count = day, count
print(f"total: {total}")
print(f"best: {best_day} with {best_count}")
