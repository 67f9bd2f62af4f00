"""Starts a live tail with boto3 and prints what it is told, a JSON document a line: {"event": NAME, …}.

    python live.py '{"logGroupIdentifiers": [ARN], …}'
"""

import json
import sys

import boto3
from botocore.config import Config

# CloudWatch has live tails at a host of their own, `streaming-…`; a node has one address.
logs = boto3.client("logs", config=Config(inject_host_prefix=False))
response = logs.start_live_tail(**json.loads(sys.argv[1]))
for event in response["responseStream"]:
    (name, document), = event.items()
    print(json.dumps({"event": name, **document}), flush=True)
