import json

with open("items.json") as file:
    items = json.load(file)
total = 0
for item in items:
    cost = item["count"] * item["price"]
    total += cost
    print(f'{item["count"]} x {item["name"]}: {cost}')
print(f"sum: {total}")
