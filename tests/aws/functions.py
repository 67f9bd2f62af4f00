"""Functions, versions and aliases."""

import base64
import hashlib
import json
import urllib.request

from promises import *

lambda_ = client()


def a_function_is_created_active_and_found_as_it_was_described():
    code = zipped({"bootstrap.wasm": component(), "notes.txt": "hello"})
    created = lambda_.create_function(
        FunctionName="hello",
        Runtime="python3.13",
        Handler="app.handler",
        Role=ROLE,
        Code={"ZipFile": code},
        Description="says hello",
        Timeout=7,
        MemorySize=256,
        Environment={"Variables": {"STAGE": "test"}},
        Tags={"team": "edge"},
        EphemeralStorage={"Size": 1024},
        Architectures=["arm64"],
        TracingConfig={"Mode": "PassThrough"},
        LoggingConfig={"LogFormat": "JSON"},
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert created["State"] == "Pending" and created["StateReasonCode"] == "Creating", created
    lambda_.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    found = lambda_.get_function(FunctionName="hello")
    configuration = found["Configuration"]
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    for member, value in {
        "FunctionName": "hello",
        "FunctionArn": ARN + "function:hello",
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Role": ROLE,
        "CodeSize": len(code),
        "CodeSha256": digest,
        "Description": "says hello",
        "Timeout": 7,
        "MemorySize": 256,
        "Version": "$LATEST",
        "Environment": {"Variables": {"STAGE": "test"}},
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 1024},
    }.items():
        assert configuration[member] == value, (member, configuration[member])
    assert configuration["LoggingConfig"]["LogFormat"] == "JSON"
    assert found["Tags"] == {"team": "edge"}
    with urllib.request.urlopen(found["Code"]["Location"]) as download:
        assert download.read() == code
    forged = found["Code"]["Location"][:-4] + "0000"
    try:
        urllib.request.urlopen(forged)
        raise AssertionError("a forged link opens")
    except urllib.error.HTTPError as error:
        assert error.code == 403
    # As it is, and by its names.
    for name in ["hello", "hello:$LATEST", "000000000000:function:hello", ARN + "function:hello"]:
        assert invoke(lambda_, name, {"a": 1})["Payload"] == {"a": 1}
        assert lambda_.get_function_configuration(FunctionName=name)["CodeSha256"] == digest
    context = invoke(lambda_, "hello", {"do": "context"})["Payload"]
    assert context["given"]["memory_limit_mb"] == 256, context


def a_handler_keeps_what_it_has_between_invocations():
    create(lambda_, "kept")
    counts = []

    def counted_to_three():
        counts.append(invoke(lambda_, "kept", {"do": "state"})["Payload"]["invocations"])
        return counts[-1] == 3

    # An instance that was made ahead may answer in between, with its own count.
    eventually(counted_to_three)
    assert counts.count(1) >= counts.count(2) >= counts.count(3) == 1, counts


def what_cannot_be_done_is_refused_and_nothing_is_made():
    good = dict(FunctionName="f", Runtime="provided.al2023", Handler="x", Role=ROLE, Code={"ZipFile": component()})
    for code, members in [
        ("ValidationException", {"FunctionName": "no name"}),
        ("ValidationException", {"MemorySize": 64}),
        ("ValidationException", {"Timeout": 6000}),
        ("ValidationException", {"Role": "somebody"}),
        ("ValidationException", {"Runtime": "cobol"}),
        ("InvalidParameterValueException", {"MemorySize": 20000}),
        ("InvalidParameterValueException", {"Timeout": 901}),
        ("InvalidParameterValueException", {"Code": {"ZipFile": b"nothing of use"}}),
        ("InvalidParameterValueException", {"Code": {"ZipFile": zipped({"readme.txt": "no code"})}}),
        ("InvalidParameterValueException", {"Code": {"ZipFile": b"\0asm\x01\0\0\0"}}),
        ("InvalidParameterValueException", {"Code": {}}),
        ("InvalidParameterValueException", {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}),
        ("InvalidParameterValueException", {"TracingConfig": {"Mode": "Active"}}),
        ("InvalidParameterValueException", {"KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"}),
        ("InvalidParameterValueException", {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}}),
        ("InvalidParameterValueException", {"Environment": {"Variables": {"AWS_REGION": "mars"}}}),
        ("InvalidParameterValueException", {"Environment": {"Variables": {"BIG": "x" * 5000}}}),
        ("InvalidParameterValueException", {"PackageType": "Image"}),
    ]:
        refused(code, lambda_.create_function, **(good | members))
    refused("ResourceNotFoundException", lambda_.get_function, FunctionName="f")
    error = refused("InvalidParameterValueException", lambda_.create_function, **(good | {"Code": {"ZipFile": b"\0asm\x01\0\0\0"}}))
    assert "wasm-tools component new" in str(error)
    assert lambda_.list_functions()["Functions"] == []
    create(lambda_, "f")
    refused("ResourceConflictException", lambda_.create_function, **good)
    # Neutral values say nothing.
    lambda_.update_function_configuration(
        FunctionName="f", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}, DeadLetterConfig={"TargetArn": ""}, KMSKeyArn=""
    )


def a_component_that_cannot_run_fails_and_says_why():
    # A component that exports nothing.
    empty = b"\0asm\x0d\0\x01\0"
    lambda_.create_function(FunctionName="empty", Runtime="provided.al2023", Handler="x", Role=ROLE, Code={"ZipFile": empty})
    failed = eventually(lambda: (c := lambda_.get_function_configuration(FunctionName="empty"))["State"] == "Failed" and c)
    assert "exports nothing" in failed["StateReason"], failed
    error = refused("InvalidParameterValueException", lambda_.invoke, FunctionName="empty")
    assert "exports nothing" in str(error)
    # New code mends it.
    lambda_.update_function_code(FunctionName="empty", ZipFile=component())
    lambda_.get_waiter("function_active_v2").wait(FunctionName="empty", WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    assert invoke(lambda_, "empty", {"a": 1})["Payload"] == {"a": 1}
    # An update that fails leaves what is served as it is.
    lambda_.update_function_code(FunctionName="empty", ZipFile=empty)
    failed = eventually(lambda: (c := lambda_.get_function_configuration(FunctionName="empty"))["LastUpdateStatus"] == "Failed" and c)
    assert failed["State"] == "Active" and "exports nothing" in failed["LastUpdateStatusReason"], failed
    assert invoke(lambda_, "empty", {"a": 2})["Payload"] == {"a": 2}


def code_and_configuration_are_updated_with_preconditions():
    first = create(lambda_, "f", Description="one")
    before = lambda_.get_function_configuration(FunctionName="f")
    dry = lambda_.update_function_code(FunctionName="f", ZipFile=component("hostile"), DryRun=True)
    assert dry["CodeSha256"] != before["CodeSha256"]
    assert lambda_.get_function_configuration(FunctionName="f") ["CodeSha256"] == before["CodeSha256"]
    stale = "00000000-0000-4000-8000-000000000000"
    refused("PreconditionFailedException", lambda_.update_function_code, FunctionName="f", ZipFile=component(), RevisionId=stale)
    refused("PreconditionFailedException", lambda_.update_function_configuration, FunctionName="f", RevisionId=stale)
    changed = lambda_.update_function_configuration(
        FunctionName="f", Description="two", MemorySize=512, Environment={"Variables": {"A1": "b"}}, RevisionId=before["RevisionId"]
    )
    updated(lambda_, "f")
    assert (changed["Description"], changed["MemorySize"]) == ("two", 512)
    assert changed["RevisionId"] != before["RevisionId"]
    # What is not named stays; what is emptied goes.
    changed = lambda_.update_function_configuration(FunctionName="f", Timeout=5)
    assert changed["Environment"] == {"Variables": {"A1": "b"}} and changed["Description"] == "two"
    changed = lambda_.update_function_configuration(FunctionName="f", Environment={"Variables": {}})
    assert "Environment" not in changed
    pending = lambda_.update_function_code(FunctionName="f", ZipFile=component("hostile"), Publish=True)
    assert pending["Version"] == "1" and pending["FunctionArn"].endswith(":function:f:1")
    updated(lambda_, "f")
    assert lambda_.get_function_configuration(FunctionName="f", Qualifier="1")["CodeSha256"] == dry["CodeSha256"]
    refused("ResourceNotFoundException", lambda_.update_function_code, FunctionName="none", ZipFile=component())


def functions_are_listed_page_by_page():
    names = [f"f{number:02}" for number in range(7)]
    for name in names:
        create(lambda_, name)
    pages = list(lambda_.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["Functions"]) for page in pages] == [3, 3, 1]
    assert [function["FunctionName"] for page in pages for function in page["Functions"]] == names
    lambda_.publish_version(FunctionName="f03")
    listed = lambda_.list_functions(FunctionVersion="ALL")["Functions"]
    assert [f["Version"] for f in listed if f["FunctionName"] == "f03"] == ["$LATEST", "1"]
    refused("InvalidParameterValueException", lambda_.list_functions, Marker="!")
    assert lambda_.get_account_settings()["AccountUsage"]["FunctionCount"] == 7


def what_is_deleted_is_gone_with_all_that_belonged_to_it():
    create(lambda_, "f", Tags={"a": "b"})
    lambda_.publish_version(FunctionName="f")
    lambda_.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    refused("InvalidParameterValueException", lambda_.delete_function, FunctionName="f", Qualifier="$LATEST")
    refused("ResourceConflictException", lambda_.delete_function, FunctionName="f", Qualifier="1")
    assert lambda_.delete_function(FunctionName="f")["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("ResourceNotFoundException", lambda_.delete_function, FunctionName="f")
    refused("ResourceNotFoundException", lambda_.invoke, FunctionName="f")
    create(lambda_, "f")
    refused("ResourceNotFoundException", lambda_.get_alias, FunctionName="f", Name="live")
    assert lambda_.list_tags(Resource=ARN + "function:f")["Tags"] == {}
    assert lambda_.publish_version(FunctionName="f")["Version"] == "1"


def versions_are_frozen_numbered_and_never_numbered_again():
    create(lambda_, "f", Environment={"Variables": {"V1": "one"}})
    one = lambda_.publish_version(FunctionName="f", Description="first")
    assert (one["Version"], one["Description"]) == ("1", "first")
    assert one["FunctionArn"] == ARN + "function:f:1"
    # Nothing changed, so it is the same version.
    assert lambda_.publish_version(FunctionName="f", Description="first")["Version"] == "1"
    lambda_.update_function_configuration(FunctionName="f", Environment={"Variables": {"V1": "two"}})
    updated(lambda_, "f")
    assert lambda_.publish_version(FunctionName="f")["Version"] == "2"
    assert lambda_.get_function_configuration(FunctionName="f", Qualifier="1")["Environment"]["Variables"] == {"V1": "one"}
    answer = invoke(lambda_, "f", {"do": "context"}, Qualifier="1")
    assert answer["ExecutedVersion"] == "1", answer
    assert invoke(lambda_, "f:2")["ExecutedVersion"] == "2"
    assert invoke(lambda_, "f")["ExecutedVersion"] == "$LATEST"
    refused("ResourceNotFoundException", lambda_.invoke, FunctionName="f", Qualifier="9")
    refused("InvalidParameterValueException", lambda_.publish_version, FunctionName="f", CodeSha256="x")
    lambda_.delete_function(FunctionName="f", Qualifier="2")
    refused("ResourceNotFoundException", lambda_.get_function, FunctionName="f", Qualifier="2")
    lambda_.update_function_configuration(FunctionName="f", Description="three")
    assert lambda_.publish_version(FunctionName="f")["Version"] == "3"
    listed = lambda_.get_paginator("list_versions_by_function").paginate(FunctionName="f", PaginationConfig={"PageSize": 2})
    assert [version["Version"] for page in listed for version in page["Versions"]] == ["$LATEST", "1", "3"]


def an_alias_leads_to_a_version_and_shares_by_weight():
    create(lambda_, "f")
    lambda_.publish_version(FunctionName="f", Description="1")
    lambda_.publish_version(FunctionName="f", Description="2")
    alias = lambda_.create_alias(FunctionName="f", Name="live", FunctionVersion="1", Description="what is live")
    assert alias["AliasArn"] == ARN + "function:f:live"
    assert invoke(lambda_, "f:live")["ExecutedVersion"] == "1"
    refused("ResourceConflictException", lambda_.create_alias, FunctionName="f", Name="live", FunctionVersion="1")
    refused("ResourceNotFoundException", lambda_.create_alias, FunctionName="f", Name="other", FunctionVersion="9")
    refused("ValidationException", lambda_.create_alias, FunctionName="f", Name="12", FunctionVersion="1")
    refused("ResourceNotFoundException", lambda_.get_alias, FunctionName="f", Name="other")
    weights = lambda weight: {"AdditionalVersionWeights": {"2": weight}}
    refused("InvalidParameterValueException", lambda_.update_alias, FunctionName="f", Name="live", RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})
    changed = lambda_.update_alias(FunctionName="f", Name="live", RoutingConfig=weights(0.25), RevisionId=alias["RevisionId"])
    refused("PreconditionFailedException", lambda_.update_alias, FunctionName="f", Name="live", RevisionId=alias["RevisionId"])
    assert changed["RoutingConfig"] == weights(0.25)
    ran = [invoke(lambda_, "f", Qualifier="live")["ExecutedVersion"] for _ in range(400)]
    # 100 are to be expected; 55 or 145 are five standard deviations away.
    assert 55 < ran.count("2") < 145 and set(ran) == {"1", "2"}, ran.count("2")
    lambda_.update_alias(FunctionName="f", Name="live", FunctionVersion="2", RoutingConfig={})
    assert {invoke(lambda_, "f:live")["ExecutedVersion"] for _ in range(20)} == {"2"}
    for name in ["blue", "green"]:
        lambda_.create_alias(FunctionName="f", Name=name, FunctionVersion="1")
    pages = lambda_.get_paginator("list_aliases").paginate(FunctionName="f", PaginationConfig={"PageSize": 2})
    assert [alias["Name"] for page in pages for alias in page["Aliases"]] == ["blue", "green", "live"]
    only = lambda_.list_aliases(FunctionName="f", FunctionVersion="1")["Aliases"]
    assert [alias["Name"] for alias in only] == ["blue", "green"]
    lambda_.delete_alias(FunctionName="f", Name="blue")
    lambda_.delete_alias(FunctionName="f", Name="blue")
    refused("ResourceNotFoundException", lambda_.invoke, FunctionName="f:blue")


run(globals())
