"""What the files of promises share: clients, components, and how a promise is kept.

A file of promises has functions, each of which is one: it calls the node with boto3 and asserts. `run` calls the one that
the command line names.
"""

import io
import json
import os
import sys
import time
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/lambda"
ARN = "arn:aws:lambda:us-east-1:000000000000:"


def client(service="lambda", **options):
    """A client that tells of a failure at once and does not try again."""
    # What botocore checks itself is for the node to refuse, too.
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60, parameter_validation=False)
    return boto3.client(service, config=config, **options)


def component(name="event_probe"):
    """A guest of tests/guests, as it was built."""
    with open(os.path.join(os.environ["GUESTS"], name + ".wasm"), "rb") as file:
        return file.read()


def zipped(files):
    """A zip of files by path."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for path, content in files.items():
            writer.writestr(path, content)
    return archive.getvalue()


def create(lambda_, name, code=None, **members):
    """A function that is active."""
    members = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Role": ROLE} | members
    created = lambda_.create_function(
        FunctionName=name, Code={"ZipFile": code or component()}, **members
    )
    lambda_.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
    )
    return created


def updated(lambda_, name):
    """Waits until an update is in force."""
    lambda_.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
    )


def invoke(lambda_, name, event=None, **members):
    """The answer to an event, read."""
    answer = lambda_.invoke(FunctionName=name, Payload=json.dumps(event or {}), **members)
    payload = answer["Payload"].read()
    answer["Payload"] = json.loads(payload) if payload else None
    return answer


def refused(code, call, /, *arguments, **members):
    """The error of a call that is refused with this code."""
    try:
        answer = call(*arguments, **members)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == code, error
        assert found["Message"], error.response
        assert error.response["ResponseMetadata"]["RequestId"], error.response
        return error
    raise AssertionError(f"it was not refused with {code} but answered {answer}")


def eventually(check, seconds=30):
    """What `check` gives once it gives something."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def run(promises):
    """Keeps the promise that the command line names."""
    promises[sys.argv[1]]()
