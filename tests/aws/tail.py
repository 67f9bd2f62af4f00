"""Follows a log group as `aws logs tail GROUP --follow` of the AWS CLI, version 2, does: it asks FilterLogEvents for what is
new, from the time of the newest event on, and leaves out what it has seen at that time.

    python tail.py GROUP [PATTERN]

prints `STREAM MESSAGE` lines, until it is killed. Version 2 is not on PyPI.
"""

import sys
import time
from collections import defaultdict

import boto3

group, *pattern = sys.argv[1:]
logs = boto3.client("logs")
arguments = {"logGroupName": group, "interleaved": True, "startTime": int((time.time() - 600) * 1000)}
if pattern:
    arguments["filterPattern"] = pattern[0]
seen = defaultdict(set)
print("following", flush=True)
while True:
    for page in logs.get_paginator("filter_log_events").paginate(**arguments):
        for event in page["events"]:
            if event["eventId"] in seen[event["timestamp"]]:
                continue
            seen[event["timestamp"]].add(event["eventId"])
            print(event["logStreamName"], event["message"], flush=True)
    if seen:
        newest = max(seen)
        seen = defaultdict(set, {newest: seen[newest]})
        arguments["startTime"] = newest
    time.sleep(0.1)
