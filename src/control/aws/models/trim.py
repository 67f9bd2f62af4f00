"""Makes the service models that Wharf is built with, from those of botocore (Apache-2.0).

    python3 src/control/aws/models/trim.py BOTOCORE_DATA_FOLDER

A model says what there is on the wire: operations, paths, members, limits, errors. Documentation and what only clients
need is left out, and of large services the operations that Wharf has no use for.
"""

import gzip
import json
import pathlib
import sys

IAM = """
AttachRolePolicy AttachUserPolicy CreateAccessKey CreatePolicy CreateRole CreateServiceLinkedRole CreateUser
DeleteAccessKey DeletePolicy DeleteRole DeleteRolePolicy DeleteUser DeleteUserPolicy DetachRolePolicy DetachUserPolicy
GetPolicy GetPolicyVersion GetRole GetRolePolicy GetUser GetUserPolicy ListAccessKeys ListAttachedRolePolicies
ListAttachedUserPolicies ListPolicies ListRolePolicies ListRoleTags ListRoles ListUserPolicies ListUsers PutRolePolicy
PutUserPolicy TagRole UntagRole UpdateAccessKey UpdateAssumeRolePolicy UpdateRole UpdateRoleDescription
ListInstanceProfilesForRole
""".split()

# Service, version, and the operations to keep; None keeps all.
SERVICES = [
    ("lambda", "2015-03-31", None),
    ("logs", "2014-03-28", None),
    ("iam", "2010-05-08", IAM),
    ("sts", "2011-06-15", None),
]

METADATA = ["apiVersion", "protocol", "jsonVersion", "targetPrefix", "signingName", "endpointPrefix", "xmlNamespace", "serviceId"]
OPERATION = ["http", "input", "output", "errors"]
SHAPE = [
    "type", "required", "members", "member", "key", "value", "enum", "pattern", "min", "max", "error", "exception",
    "payload", "streaming", "eventstream", "event", "flattened", "sensitive", "timestampFormat",
]
MEMBER = [
    "shape", "location", "locationName", "streaming", "eventpayload", "eventheader", "flattened", "timestampFormat",
]


def keep(value, names):
    return {name: value[name] for name in names if name in value}


def trim(model, wanted):
    operations = {
        name: keep(operation, OPERATION)
        for name, operation in model["operations"].items()
        if wanted is None or name in wanted
    }
    missing = set(wanted or []) - set(operations)
    assert not missing, missing
    for operation in operations.values():
        operation["errors"] = [error["shape"] for error in operation.get("errors", [])]
        for side in ("input", "output"):
            if side in operation:
                operation[side] = keep(operation[side], ["shape", "resultWrapper"])
    shapes = {}

    def visit(name):
        if name in shapes:
            return
        shape = keep(model["shapes"][name], SHAPE)
        shapes[name] = shape
        if "members" in shape:
            shape["members"] = {
                member: keep(reference, MEMBER) for member, reference in shape["members"].items()
            }
        for part in ("member", "key", "value"):
            if part in shape:
                shape[part] = keep(shape[part], MEMBER)
        references = [*shape.get("members", {}).values(), *(shape[part] for part in ("member", "key", "value") if part in shape)]
        for reference in references:
            visit(reference["shape"])

    for operation in operations.values():
        for name in [*operation["errors"], *(operation[side]["shape"] for side in ("input", "output") if side in operation)]:
            visit(name)
    return {
        "metadata": keep(model["metadata"], METADATA),
        "operations": dict(sorted(operations.items())),
        "shapes": dict(sorted(shapes.items())),
    }


def main():
    data = pathlib.Path(sys.argv[1])
    for service, version, wanted in SERVICES:
        with gzip.open(data / service / version / "service-2.json.gz") as file:
            model = json.load(file)
        target = pathlib.Path(__file__).with_name(f"{service}.json")
        target.write_text(json.dumps(trim(model, wanted), ensure_ascii=False, separators=(",", ":"), indent=None) + "\n")
        print(target.name, target.stat().st_size)


main()
