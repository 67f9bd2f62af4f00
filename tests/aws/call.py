"""Calls the API with boto3, which has its settings from the environment alone, and prints what came of it.

Standard input is a JSON list of calls:

    {"service": "lambda", "operation": "invoke", "parameters": {…},
     "client": {…}, "config": {…}, "profile": …, "unsigned": true, "paginate": {…}, "wait": {…}}

Only "operation" must be there. "client" is what the client is made with, "config" its `Config`. With "paginate" the
operation is paginated with that PaginationConfig ({} for the default) to the end; with "wait" the operation is the name
of a waiter, and that its WaiterConfig. In parameters, {"$file": PATH} is a file's bytes, {"$base64": TEXT} bytes, and
{"$answer": [N, "Role", "Arn"]} a part of the answer to call N.

A line of JSON is printed for each: the response, or {"code": …, "status": …, "message": …} of an error, with whatever else
it said. Responses are held against the service's model: a member of a wrong type, or a required one that lacks, ends all.
"""

import base64
import json
import pathlib
import sys

import boto3
import botocore
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError, WaiterError
from botocore.validate import ParamValidator

answers = []


def plain(value):
    if isinstance(value, EventStream):
        return list(value)
    if hasattr(value, "read"):
        value = value.read()
    return value.decode() if isinstance(value, bytes) else str(value)


def resolved(value):
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$file" in value:
        return pathlib.Path(value["$file"]).read_bytes()
    if "$base64" in value:
        return base64.b64decode(value["$base64"])
    if "$answer" in value:
        index, *path = value["$answer"]
        found = answers[index]
        for part in path:
            found = found[part]
        return found
    return {name: resolved(item) for name, item in value.items()}


def undecoded(value):
    """As it came: botocore makes structures of IAM's policy documents."""
    if isinstance(value, list):
        return [undecoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    documents = "PolicyDocument", "AssumeRolePolicyDocument", "Document"
    return {
        name: json.dumps(item) if name in documents and isinstance(item, dict) else undecoded(item)
        for name, item in value.items()
    }


def check(client, operation, response):
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).output_shape
    if shape is None:
        return
    streams = [name for name, value in response.items() if isinstance(value, EventStream)]
    known = {name: value for name, value in response.items() if name not in ["ResponseMetadata", *streams]}
    report = ParamValidator().validate(undecoded(known), shape)
    if report.has_errors():
        sys.exit(f"{operation}: not the model's response: {report.generate_report()}\n{response}")


def answer(call):
    config = call.get("config", {})
    if call.get("unsigned"):
        config["signature_version"] = botocore.UNSIGNED
    session = boto3.Session(profile_name=call.get("profile"))
    client = session.client(
        call.get("service", "lambda"),
        config=Config(retries={"total_max_attempts": 1}, **config),
        **resolved(call.get("client", {})),
    )
    operation, parameters = call["operation"], resolved(call.get("parameters", {}))
    try:
        if "paginate" in call:
            pages = client.get_paginator(operation).paginate(**parameters, PaginationConfig=call["paginate"])
            return pages.build_full_result()
        if "wait" in call:
            client.get_waiter(operation).wait(**parameters, WaiterConfig=call["wait"])
            return {"waited": operation}
        response = getattr(client, operation)(**parameters)
    except ClientError as error:
        said = dict(error.response)
        metadata, said_error = said.pop("ResponseMetadata"), said.pop("Error")
        return said | {
            "code": said_error["Code"],
            "message": said_error["Message"],
            "status": metadata["HTTPStatusCode"],
        }
    except WaiterError as error:
        return {"code": "WaiterError", "message": str(error), "last": error.last_response}
    check(client, operation, response)
    return response


for call in json.load(sys.stdin):
    line = json.dumps(answer(call), default=plain)
    answers.append(json.loads(line))
    print(line, flush=True)
