"""Signs requests with botocore, as of any time, and does not send them.

Standard input is a JSON list of {"method", "url", "headers", "body"}, perhaps with "late" (seconds from now), "expires"
(presigned, good for so long), "region", "service", "key_id", "secret". A line of JSON is printed for each, in the same form.
"""

import datetime
import json
import sys

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

session = botocore.session.get_session()
own = session.get_credentials()
real_now = botocore.auth.get_current_datetime

for wanted in json.load(sys.stdin):
    late = datetime.timedelta(seconds=wanted.get("late", 0))
    botocore.auth.get_current_datetime = lambda *args, **kwargs: real_now(*args, **kwargs) + late
    credentials = Credentials(wanted.get("key_id", own.access_key), wanted.get("secret", own.secret_key))
    scope = wanted.get("service", "lambda"), wanted.get("region", session.get_config_variable("region"))
    request = AWSRequest(
        method=wanted["method"],
        url=wanted["url"],
        headers=wanted.get("headers", {}),
        data=wanted.get("body", "").encode(),
    )
    if "expires" in wanted:
        signer = botocore.auth.SigV4QueryAuth(credentials, *scope, expires=wanted["expires"])
        # It would move a body into the query.
        body, request.data = request.data, b""
    else:
        signer = botocore.auth.SigV4Auth(credentials, *scope)
        body = request.data
    signer.add_auth(request)
    headers = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in request.headers.items()
    }
    signed = {"method": request.method, "url": request.url, "headers": headers, "body": body.decode()}
    print(json.dumps(signed))
