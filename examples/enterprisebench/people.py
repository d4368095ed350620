"""Write people.yaml from EnterpriseBench's employees.json: each employee a user, each department a group, all of them staff.

python people.py ~/data/enterprisebench > people.yaml
mainstay users import people.yaml
"""

import json
import sys
from pathlib import Path

import yaml


def main(folder: Path) -> None:
    employees = json.loads((folder / "employees.json").read_text(encoding="utf-8"))
    here = [person for person in employees if person["DOL"] == "Present"]
    departments = sorted({slug(person["category"]) for person in employees})
    users = [
        {"name": p["emp_id"], "display": p["Name"], "email": p["email"], "groups": [slug(p["category"])]} for p in here
    ]
    groups = [{"name": "staff", "members": [f"group:{name}" for name in departments]}]
    yaml.safe_dump({"users": users, "groups": groups}, sys.stdout, allow_unicode=True, sort_keys=False)


def slug(department: str) -> str:
    return department.lower().replace(" ", "-")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
