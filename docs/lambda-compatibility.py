"""Writes docs/lambda-compatibility.md: every operation of Lambda's service model, and what becomes of its members.

    python3 docs/lambda-compatibility.py

The operations and members come from the model that Wharf is built with; what differs, and why, stands here.
`tests/compatibility.rs` sees to it that the page has them all.
"""

import json
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
MODEL = json.loads((ROOT / "src/control/aws/models/lambda.json").read_text())

DURABLE = "there are no durable executions"
CAPACITY = "there are no capacity providers"
POLICY = "use AddPermission, RemovePermission and GetPolicy"

# Operations that are answered with an error, and why.
REFUSED = {
    "CheckpointDurableExecution": DURABLE,
    "DeleteDurableExecution": DURABLE,
    "GetDurableExecution": DURABLE,
    "GetDurableExecutionHistory": DURABLE,
    "GetDurableExecutionState": DURABLE,
    "ListDurableExecutionsByFunction": DURABLE,
    "PauseDurableExecution": DURABLE,
    "ResumeDurableExecution": DURABLE,
    "SendDurableExecutionCallbackFailure": DURABLE,
    "SendDurableExecutionCallbackHeartbeat": DURABLE,
    "SendDurableExecutionCallbackSuccess": DURABLE,
    "StopDurableExecution": DURABLE,
    "CreateCapacityProvider": CAPACITY,
    "DeleteCapacityProvider": CAPACITY,
    "GetCapacityProvider": CAPACITY,
    "ListCapacityProviders": CAPACITY,
    "ListFunctionVersionsByCapacityProvider": CAPACITY,
    "UpdateCapacityProvider": CAPACITY,
    "GetFunctionScalingConfig": CAPACITY,
    "PutFunctionScalingConfig": CAPACITY,
    "DeleteResourcePolicy": POLICY,
    "GetResourcePolicy": POLICY,
    "PutResourcePolicy": POLICY,
}

# Errors that the node answers with, and when.
RAISED = {
    "CodeSigningConfigNotFoundException": "a function is to be tied to a code signing configuration that is not there",
    "InvalidParameterValueException": "a value breaks a rule, or asks for what Wharf has not",
    "InvalidRequestContentException": "a payload is not JSON",
    "PolicyLengthExceededException": "a resource policy would be larger than 20 KB",
    "PreconditionFailedException": "the RevisionId is not the present one",
    "ProvisionedConcurrencyConfigNotFoundException": "a version or alias has no provisioned concurrency",
    "RequestTooLargeException": "a payload is larger than 6 MB, or 1 MB for an Event",
    "ResourceConflictException": "it exists already, is being changed, or was changed meanwhile",
    "ResourceNotFoundException": "there is none of that name",
    "ServiceException": "the node failed, or its disk is full",
    "TooManyRequestsException": "concurrency is used up; the Reason is Lambda's",
    "UnsupportedMediaTypeException": "a payload is not announced as JSON",
}

# Errors that the node never answers with, by what they begin with, and why.
NEVER = {
    "AliasLimitExceeded": "aliases have no quota",
    "Callback": DURABLE,
    "CapacityProviderLimit": CAPACITY,
    "CodeArtifactUser": "nothing is taken from CodeArtifact",
    "CodeStorageExceeded": "code has no quota but the disk, which is a ServiceException",
    "CodeVerificationFailed": "signatures of code are not checked",
    "DurableExecution": DURABLE,
    "EC2": "a VPC needs no network interfaces",
    "EFS": "there is no EFS",
    "ENI": "a VPC needs no network interfaces",
    "FunctionVersionsPerCapacityProvider": CAPACITY,
    "InvalidCodeSignature": "signatures of code are not checked",
    "InvalidRuntime": "what the package holds decides, when it is deployed",
    "InvalidSecurityGroupID": "the ids are checked when the function is changed: InvalidParameterValueException",
    "InvalidSubnetID": "the ids are checked when the function is changed: InvalidParameterValueException",
    "InvalidZipFile": "packages are read when they are deployed: InvalidParameterValueException",
    "KMS": "there is no KMS",
    "ModeNotSupported": "every function can be invoked in every way",
    "NoPublishedVersion": CAPACITY,
    "PublicPolicy": "public access cannot be blocked for an account",
    "RecursiveInvocation": "a function that calls itself through others gets the error of the call, which it may handle",
    "ResourceInUse": "mappings are changed and deleted at once",
    "ResourceNotReady": "a function that is not ready answers with ResourceConflictException",
    "RuntimeAliasDeleted": "components bring their runtime",
    "RuntimeVersionDeleted": "components bring their runtime",
    "S3Files": "no file systems are mounted from S3",
    "SerializedRequestEntityTooLarge": "a payload is measured as it came: RequestTooLargeException",
    "ServiceQuotaExceeded": CAPACITY,
    "SnapStart": "instances are made ahead of every version, and none is restored",
    "SubnetIPAddressLimitReached": "a VPC needs no addresses",
}

CONFIGURATION = {
    "Role": "differs: recorded; checked where the node runs with --check-roles",
    "Runtime": "differs: stored; what the package holds decides",
    "Handler": "differs: chooses the component of a package that holds several",
    "MemorySize": "differs: at most 10,240; it bounds all memories and tables of an instance together",
    "Timeout": "differs: at most 900",
    "EphemeralStorage": "differs: at most 10,240",
    "VpcConfig": "works: subnets and security groups of the node's configuration file; VpcId is not given back",
    "KMSKeyArn": "refused unless empty: the node's own key encrypts",
    "FileSystemConfigs": "refused unless empty",
    "ImageConfig": "refused unless empty",
    "TracingConfig": "differs: PassThrough alone",
    "DeadLetterConfig": "differs: a function of this node; SQS and SNS are refused",
    "SnapStart": "differs: stored; instances are made ahead of every version anyway",
    "Architectures": "differs: stored; a component runs on either",
    "LoggingConfig": "works: levels want LogFormat JSON, as Lambda's do",
    "Layers": "differs: layers of this account; a component in a layer is linked into the function's imports",
    "TenancyConfig": "refused",
    "CapacityProviderConfig": "refused",
    "DurableConfig": "refused",
    "RuntimeConfig": "refused",
    "AcceleratorConfig": "refused",
    "PublishTo": "refused",
    "CodeSigningConfigArn": "differs: stored; signatures of code are not checked, and a configuration that enforces is refused",
}

CODE = {
    "ZipFile": "works: a zip that holds a component, or the component",
    "S3Bucket": "works where the node has an S3 endpoint (--s3-endpoint)",
    "S3Key": "works",
    "S3ObjectVersion": "works",
    "S3ObjectStorageMode": "differs: COPY alone",
    "ImageUri": "works: a WebAssembly artifact of an OCI registry",
    "SourceKMSKeyArn": "refused unless empty",
}

# What is not as the model says, by operation and member.
MEMBERS = {
    "PublishVersion": {"PublishTo": "refused"},
    "CreateFunction": CONFIGURATION | {"Code": "works: ZipFile; S3Bucket and S3Key; ImageUri"},
    "UpdateFunctionConfiguration": CONFIGURATION,
    "UpdateFunctionCode": CODE | {"Architectures": "differs: stored", "PublishTo": "refused"},
    "ListFunctions": {"MasterRegion": "differs: of another region there is nothing"},
    "Invoke": {"TenantId": "refused", "DurableExecutionName": "refused"},
    "InvokeWithResponseStream": {"TenantId": "refused"},
    "PutFunctionRecursionConfig": {"RecursiveLoop": "differs: Terminate alone"},
    "PutRuntimeManagementConfig": {
        "UpdateRuntimeOn": "differs: Auto alone",
        "RuntimeVersionArn": "refused",
    },
    "PutFunctionEventInvokeConfig": {"DestinationConfig": "differs: functions of this node"},
    "UpdateFunctionEventInvokeConfig": {"DestinationConfig": "differs: functions of this node"},
    "CreateCodeSigningConfig": {"CodeSigningPolicies": "differs: Warn alone"},
    "UpdateCodeSigningConfig": {"CodeSigningPolicies": "differs: Warn alone"},
    "TagResource": {"Resource": "differs: functions alone"},
    "UntagResource": {"Resource": "differs: functions alone"},
    "ListTags": {"Resource": "differs: functions alone"},
}

# What is to be said of an operation that works.
NOTES = {
    "CreateEventSourceMapping": "stored, validated and listed; it does not run, and its State says so",
    "UpdateEventSourceMapping": "as CreateEventSourceMapping",
    "GetAccountSettings": "ConcurrentExecutions is the node's",
    "CreateFunctionUrlConfig": "URLs are `http://ID.lambda-url.REGION.localhost:PORT/`",
    "PublishVersion": "at once, and not in the background",
    "GetFunction": "`Code.Location` is a link to the node's API, good for ten minutes",
    "Invoke": "an HTTP component takes API Gateway's and function URLs' events",
    "InvokeAsync": "deprecated by AWS, and works",
    "PutProvisionedConcurrencyConfig": "fills the pool of the version; READY when the instances are made",
}

HEAD = """# How far Wharf is Lambda's API

What becomes of each operation and each input member of AWS Lambda's service model (2015-03-31, as botocore has it): it
**works** as AWS documents it, it **differs**, or it is **refused** with an error of Lambda's shape
(`InvalidParameterValueException`, which names what cannot be done). A member that the model does not have is refused with
a `ValidationException`. This page is made by `docs/lambda-compatibility.py`.

Beside Lambda the API has CloudWatch Logs ([cloudwatch-logs.md](cloudwatch-logs.md)), and IAM and STS as far as scripts that
deploy functions need them: users, access keys, roles, managed and inline policies, GetCallerIdentity, AssumeRole,
GetSessionToken.

What is true of all operations:

- Function names are taken as name, partial ARN or ARN, with the qualifier in them or beside them.
- Calls are signed (AWS Signature Version 4, in the header or presigned) or carry the node's token, and are held against the
  caller's policies; a function's resource policy can allow more.
- `RevisionId` is that of the function's version, of the alias or of the policy. Of two writers that read the same revision
  one gets `ResourceConflictException`.
- A function is made ready in the background: `State` is `Pending`, `LastUpdateStatus` `InProgress` meanwhile, unless its
  component was compiled before. Until an update is ready, what was there before is served.
- Event functions (`wharf:function`) made with this API reuse their instances, as execution environments do; functions that
  speak HTTP get a fresh instance for every request.
- A component that is a distribution's hook or middleware is a function too: it has versions and aliases. It is not invoked:
  Invoke, function URLs, event invoke configs and event source mappings refuse it by name.

"""

ERRORS = """
## Errors

Those that the model names, with Lambda's words where AWS documents them. Beside them stand those of every AWS API, such as
`AccessDeniedException` and `ValidationException`.

| error | when |
| --- | --- |
"""


def members(operation):
    shape = MODEL["operations"][operation].get("input", {}).get("shape")
    return list(MODEL["shapes"][shape].get("members", {})) if shape else []


def main():
    lines = [HEAD, "| operation | | members that work | members that differ or are refused |\n", "| --- | --- | --- | --- |\n"]
    for operation in sorted(MODEL["operations"]):
        if operation in REFUSED:
            names = ", ".join(members(operation))
            lines.append(f"| {operation} | refused: {REFUSED[operation]} | | {names} |\n")
            continue
        special = MEMBERS.get(operation, {})
        unknown = set(special) - set(members(operation))
        assert not unknown or operation in ("CreateFunction", "UpdateFunctionConfiguration"), (operation, unknown)
        plain = [name for name in members(operation) if special.get(name, "works") == "works"]
        rest = [f"{name} ({special[name]})" for name in members(operation) if name not in plain]
        note = NOTES.get(operation)
        status = f"works: {note}" if note else "works"
        lines.append(f"| {operation} | {status} | {', '.join(plain)} | {'; '.join(rest)} |\n")
    lines.append(ERRORS)
    named = {name for operation in MODEL["operations"].values() for name in operation.get("errors", [])}
    for name in sorted(named):
        if name in RAISED:
            lines.append(f"| {name} | {RAISED[name]} |\n")
            continue
        [why] = [why for start, why in NEVER.items() if name.startswith(start)]
        lines.append(f"| {name} | never: {why} |\n")
    (ROOT / "docs/lambda-compatibility.md").write_text("".join(lines))


main()
