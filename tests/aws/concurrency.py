"""Concurrency, permissions and tags."""

import concurrent.futures
import threading

from promises import *

lambda_ = client()


def reserved_concurrency_throttles_and_zero_switches_off():
    create(lambda_, "f")
    assert "ReservedConcurrentExecutions" not in lambda_.get_function_concurrency(FunctionName="f")
    before = lambda_.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    assert lambda_.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)["ReservedConcurrentExecutions"] == 2
    assert lambda_.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == before - 2
    assert lambda_.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 2}

    # They are made before, and call at one moment: making one takes its time.
    callers = [client() for _ in range(6)]
    together = threading.Barrier(len(callers))

    def slow(caller):
        together.wait()
        try:
            invoke(caller, "f", {"do": "sleep", "ms": 2000})
            return None
        except ClientError as error:
            return error.response

    with concurrent.futures.ThreadPoolExecutor(len(callers)) as threads:
        answers = list(threads.map(slow, callers))
    throttled = [answer for answer in answers if answer]
    assert answers.count(None) == 2 and len(throttled) == 4, answers
    for answer in throttled:
        assert answer["Error"]["Code"] == "TooManyRequestsException", answer
        assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", answer
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    lambda_.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    refused("TooManyRequestsException", lambda_.invoke, FunctionName="f")
    lambda_.delete_function_concurrency(FunctionName="f")
    assert invoke(lambda_, "f", {"a": 1})["Payload"] == {"a": 1}
    refused("InvalidParameterValueException", lambda_.put_function_concurrency, FunctionName="f", ReservedConcurrentExecutions=100000)
    refused("ResourceNotFoundException", lambda_.put_function_concurrency, FunctionName="none", ReservedConcurrentExecutions=1)


def provisioned_instances_are_made_ahead_for_versions_and_aliases():
    create(lambda_, "f")
    lambda_.publish_version(FunctionName="f")
    lambda_.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    refused("InvalidParameterValueException", lambda_.put_provisioned_concurrency_config, FunctionName="f", Qualifier="$LATEST", ProvisionedConcurrentExecutions=1)
    refused("ResourceNotFoundException", lambda_.put_provisioned_concurrency_config, FunctionName="f", Qualifier="7", ProvisionedConcurrentExecutions=1)
    refused("ProvisionedConcurrencyConfigNotFoundException", lambda_.get_provisioned_concurrency_config, FunctionName="f", Qualifier="live")
    refused("InvalidParameterValueException", lambda_.put_provisioned_concurrency_config, FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=100000)
    put = lambda_.put_provisioned_concurrency_config(FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=3)
    assert put["RequestedProvisionedConcurrentExecutions"] == 3
    ready = eventually(lambda: (c := lambda_.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live"))["Status"] == "READY" and c)
    assert ready["AvailableProvisionedConcurrentExecutions"] == 3
    listed = lambda_.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
    assert [config["FunctionArn"] for config in listed] == [ARN + "function:f:live"]
    tail = invoke(lambda_, "f:live", {}, LogType="Tail")
    import base64
    log = base64.b64decode(tail["LogResult"]).decode()
    assert "Init Duration" not in log, log
    lambda_.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
    refused("ProvisionedConcurrencyConfigNotFoundException", lambda_.delete_provisioned_concurrency_config, FunctionName="f", Qualifier="live")


def a_functions_recursion_ends():
    create(lambda_, "f")
    assert lambda_.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    assert lambda_.put_function_recursion_config(FunctionName="f", RecursiveLoop="Terminate")["RecursiveLoop"] == "Terminate"
    refused("InvalidParameterValueException", lambda_.put_function_recursion_config, FunctionName="f", RecursiveLoop="Allow")


def permissions_are_statements_of_a_policy():
    create(lambda_, "f")
    refused("ResourceNotFoundException", lambda_.get_policy, FunctionName="f")
    added = lambda_.add_permission(
        FunctionName="f", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::bucket", SourceAccount="000000000000",
    )
    statement = json.loads(added["Statement"])
    assert statement == {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": ARN + "function:f",
        "Condition": {"StringEquals": {"AWS:SourceAccount": "000000000000"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
    }, statement
    refused("ResourceConflictException", lambda_.add_permission, FunctionName="f", StatementId="s3", Action="lambda:InvokeFunction", Principal="*")
    refused("InvalidParameterValueException", lambda_.add_permission, FunctionName="f", StatementId="x", Action="lambda:InvokeFunction", Principal="nobody")
    policy = lambda_.get_policy(FunctionName="f")
    assert json.loads(policy["Policy"])["Statement"] == [statement]
    refused("PreconditionFailedException", lambda_.remove_permission, FunctionName="f", StatementId="s3", RevisionId="00000000-0000-4000-8000-000000000000")
    lambda_.add_permission(FunctionName="f", StatementId="other", Action="lambda:InvokeFunction", Principal="123456789012")
    lambda_.remove_permission(FunctionName="f", StatementId="s3")
    refused("ResourceNotFoundException", lambda_.remove_permission, FunctionName="f", StatementId="s3")
    [left] = json.loads(lambda_.get_policy(FunctionName="f")["Policy"])["Statement"]
    assert left["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    for number in range(200):
        try:
            lambda_.add_permission(FunctionName="f", StatementId=f"s{number}-" + "x" * 80, Action="lambda:InvokeFunction", Principal="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PolicyLengthExceededException"
            break
    else:
        raise AssertionError("a policy has no end")


def tags_are_kept():
    create(lambda_, "f", Tags={"a": "1"})
    arn = ARN + "function:f"
    lambda_.tag_resource(Resource=arn, Tags={"b": "2", "a": "3"})
    assert lambda_.list_tags(Resource=arn)["Tags"] == {"a": "3", "b": "2"}
    lambda_.untag_resource(Resource=arn, TagKeys=["a", "none"])
    assert lambda_.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    refused("InvalidParameterValueException", lambda_.tag_resource, Resource=arn, Tags={"aws:x": "1"})
    refused("InvalidParameterValueException", lambda_.tag_resource, Resource=arn, Tags={f"k{n}": "" for n in range(60)})
    refused("ResourceNotFoundException", lambda_.list_tags, Resource=ARN + "function:none")


run(globals())
