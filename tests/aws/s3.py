"""Serves S3: moto, behind a check of signatures that is made with botocore's own code.

Standard input is a JSON document: {"key": …, "secret": …, "region": …, "objects": [[BUCKET, KEY, FILE], …]}. Objects
that have the same key are versions of one. The first line printed is JSON: {"port": …, "versions": […]}. It serves until
standard input ends.
"""

import hmac
import json
import pathlib
import sys
import threading
from urllib.parse import parse_qsl, urlencode

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

settings = json.loads(sys.stdin.readline())
key, secret, region = settings["key"], settings["secret"], settings["region"]
moto = DomainDispatcherApplication(create_backend_app)


def expected(environ, parameters):
    """The signature that a presigned request should have."""
    signed = [(name, value) for name, value in parameters if name != "X-Amz-Signature"]
    named = dict(parameters)
    url = f"http://{environ['HTTP_HOST']}{environ['RAW_URI']}?{urlencode(signed)}"
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=url)
    request.context["timestamp"] = named["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(key, secret), "s3", region, int(named["X-Amz-Expires"]))
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


def checked(environ, start_response):
    parameters = parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
    environ["RAW_URI"] = environ["RAW_URI"].split("?")[0]
    signature = dict(parameters).get("X-Amz-Signature")
    if signature is None or hmac.compare_digest(signature, expected(environ, parameters)):
        return moto(environ, start_response)
    start_response("403 Forbidden", [("Content-Type", "application/xml")])
    return [b"<Error><Code>SignatureDoesNotMatch</Code><Message>The signatures differ &amp; so on.</Message></Error>"]


server = make_server("127.0.0.1", 0, checked, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.port}",
    region_name="us-east-1",
    aws_access_key_id=key,
    aws_secret_access_key=secret,
)
versions = []
for bucket in sorted({bucket for bucket, _, _ in settings["objects"]}):
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
for bucket, name, file in settings["objects"]:
    put = client.put_object(Bucket=bucket, Key=name, Body=pathlib.Path(file).read_bytes())
    versions.append(put["VersionId"])
print(json.dumps({"port": server.port, "versions": versions}), flush=True)
sys.stdin.read()
