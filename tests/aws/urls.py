"""Function URLs, from their configuration to their answers."""

import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.session

from promises import *

lambda_ = client()


def fetch(url, method="GET", headers=None, body=None):
    """What a URL answers: status, headers, body. The host resolves as every name under localhost does."""
    scheme, rest = url.split("://")
    authority, path = rest.split("/", 1)
    host, port = authority.split(":")
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.request(method, "/" + path, body=body, headers={"Host": authority} | (headers or {}))
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def signed(url, secret=None):
    """The headers of a signed GET."""
    credentials = botocore.session.get_session().get_credentials().get_frozen_credentials()
    if secret:
        credentials = botocore.credentials.Credentials(credentials.access_key, secret)
    request = botocore.awsrequest.AWSRequest("GET", url)
    botocore.auth.SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
    return dict(request.headers)


def allow(name, auth_type, qualifier=None, principal="*"):
    more = {"Qualifier": qualifier} if qualifier else {}
    lambda_.add_permission(
        FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal=principal, FunctionUrlAuthType=auth_type, **more
    )


def a_url_is_configured_listed_changed_and_deleted():
    create(lambda_, "f")
    lambda_.publish_version(FunctionName="f")
    lambda_.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    refused("ResourceNotFoundException", lambda_.get_function_url_config, FunctionName="f")
    refused("ResourceNotFoundException", lambda_.create_function_url_config, FunctionName="none", AuthType="NONE")
    refused("ValidationException", lambda_.create_function_url_config, FunctionName="f", AuthType="NONE", Qualifier="1")
    refused("ValidationException", lambda_.create_function_url_config, FunctionName="f", AuthType="SOME")
    created = lambda_.create_function_url_config(FunctionName="f", AuthType="AWS_IAM", Cors={"AllowOrigins": ["https://a.example"], "MaxAge": 60})
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert created["FunctionArn"] == ARN + "function:f" and ".lambda-url.us-east-1." in created["FunctionUrl"]
    assert created["Cors"] == {"AllowOrigins": ["https://a.example"], "MaxAge": 60}
    refused("ResourceConflictException", lambda_.create_function_url_config, FunctionName="f", AuthType="NONE")
    lambda_.create_function_url_config(FunctionName="f", AuthType="NONE", Qualifier="live")
    listed = lambda_.get_paginator("list_function_url_configs").paginate(FunctionName="f", PaginationConfig={"PageSize": 1})
    arns = [config["FunctionArn"] for page in listed for config in page["FunctionUrlConfigs"]]
    assert arns == [ARN + "function:f", ARN + "function:f:live"], arns
    changed = lambda_.update_function_url_config(FunctionName="f", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"], changed["Cors"]) == ("NONE", "RESPONSE_STREAM", created["Cors"])
    lambda_.delete_function_url_config(FunctionName="f")
    refused("ResourceNotFoundException", lambda_.get_function_url_config, FunctionName="f")
    refused("ResourceNotFoundException", lambda_.delete_function_url_config, FunctionName="f")


def a_url_answers_whom_the_functions_policy_lets_in():
    create(lambda_, "f")
    url = lambda_.create_function_url_config(FunctionName="f", AuthType="NONE")["FunctionUrl"]
    status, headers, _ = fetch(url)
    assert status == 403 and headers["x-amzn-errortype"] == "AccessDeniedException", (status, headers)
    allow("f", "NONE")
    status, _, body = fetch(url + "path?a=1")
    assert status == 200, (status, body)
    event = json.loads(body)
    assert event["rawPath"] == "/path" and event["rawQueryString"] == "a=1", event
    lambda_.remove_permission(FunctionName="f", StatementId="url")
    assert fetch(url)[0] == 403
    lambda_.delete_function_url_config(FunctionName="f")
    assert fetch(url)[0] == 404


def a_url_that_wants_a_signature_takes_no_other():
    create(lambda_, "f")
    url = lambda_.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")["FunctionUrl"]
    assert fetch(url)[0] == 403
    assert fetch(url, headers=signed(url, "wrong"))[0] == 403
    status, _, body = fetch(url, headers=signed(url))
    assert status == 200, (status, body)
    event = json.loads(body)
    assert event["requestContext"]["authorizer"]["iam"]["userArn"].startswith("arn:aws:iam::000000000000:"), event
    assert "authorization" not in event["headers"]
    token = open(os.path.join(os.environ["DATA"], "api-token")).read().strip()
    assert fetch(url, headers={"Authorization": f"Bearer {token}"})[0] == 403


def preflights_are_answered_for_the_function():
    create(lambda_, "f")
    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "AllowHeaders": ["x-one"], "MaxAge": 60}
    url = lambda_.create_function_url_config(FunctionName="f", AuthType="NONE", Cors=cors)["FunctionUrl"]
    allow("f", "NONE")
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-one"}
    status, headers, _ = fetch(url, "OPTIONS", asked)
    assert status in (200, 204) and headers["access-control-allow-origin"] == "https://a.example", headers
    assert headers["access-control-max-age"] == "60"
    _, headers, _ = fetch(url, headers={"Origin": "https://a.example"})
    assert headers["access-control-allow-origin"] == "https://a.example"
    _, headers, _ = fetch(url, headers={"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in headers


run(globals())
