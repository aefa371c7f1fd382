import json

with open("service.env") as file:
    wanted = dict(line.strip().split("=") for line in file)
with open("service.json") as file:
    found = {key: str(value) for key, value in json.load(file).items()}
if found != wanted:
    raise SystemExit(f"service.json holds {found}, not {wanted}")
print("service.json is right")
