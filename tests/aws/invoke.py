"""Calls the API with boto3, which has its settings from the environment alone, and prints what came of it.

Standard input is a JSON list of calls: {"client": {…}, "config": {…}, "operation": …, "parameters": {…}}. A line of JSON
is printed for each: the response, or {"code": …, "status": …, "message": …} of an error.
"""

import json
import sys

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError


def plain(value):
    if hasattr(value, "read"):
        value = value.read()
    return value.decode() if isinstance(value, bytes) else str(value)


for call in json.load(sys.stdin):
    config = call.get("config", {})
    if call.get("unsigned"):
        config["signature_version"] = botocore.UNSIGNED
    session = boto3.Session(profile_name=call.get("profile"))
    client = session.client(
        "lambda", config=Config(retries={"total_max_attempts": 1}, **config), **call.get("client", {})
    )
    try:
        result = getattr(client, call["operation"])(**call["parameters"])
    except ClientError as error:
        response = error.response
        result = {
            "code": response["Error"]["Code"],
            "message": response["Error"]["Message"],
            "status": response["ResponseMetadata"]["HTTPStatusCode"],
        }
    print(json.dumps(result, default=plain))
