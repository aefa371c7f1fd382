import json

with open("people.json") as file:
    people = json.load(file)
wanted = [("Ada", "ada@example.com", 36), ("Grace", "grace@example.com", 45), ("Linus", "linus@example.com", 28)]
found = [(person["name"], person["email"], person["age"]) for person in people]
if found != wanted:
    raise SystemExit(f"people.json holds {found}, not {wanted}")
print("people.json is right")
