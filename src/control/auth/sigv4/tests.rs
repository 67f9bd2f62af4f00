//! Signatures made by others: AWS's test suite for Signature Version 4, and botocore 1.44.

use http::Request;
use proptest::prelude::*;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A request that is signed, and what it was signed for.
#[derive(Clone)]
struct Signed {
    method: &'static str,
    uri: String,
    fields: Vec<(&'static str, String)>,
    body: &'static str,
    service: &'static str,
}

impl Signed {
    fn head(&self) -> Parts {
        let mut request = Request::builder().method(self.method).uri(&self.uri);
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn judge(&self, now: &str) -> Result<(), Refusal> {
        let head = self.head();
        let claim = Claim::of(&head)?.ok_or(Refusal::Missing)?;
        if claim.key_id != "AKIDEXAMPLE" {
            return Err(Refusal::Unrecognized);
        }
        claim.check(now.parse().unwrap(), &["us-east-1"], &[self.service])?;
        claim.verify(
            &head,
            SECRET,
            &claim.payload.unwrap_or(Digest::of(self.body.as_bytes())),
        )
    }

    fn field(&mut self, name: &str) -> &mut String {
        let mut fields = self.fields.iter_mut();
        &mut fields.find(|(found, _)| *found == name).unwrap().1
    }

    fn replaced(&self, name: &str, from: &str, to: &str) -> Self {
        let mut changed = self.clone();
        let value = changed.field(name);
        assert!(value.contains(from), "{value}");
        *value = value.replacen(from, to, 1);
        changed
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.fields.push((name, value.to_owned()));
        changed
    }

    fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.fields.retain(|(found, _)| *found != name);
        changed
    }

    fn at(&self, from: &str, to: &str) -> Self {
        assert!(self.uri.contains(from), "{}", self.uri);
        let uri = self.uri.replacen(from, to, 1);
        Self {
            uri,
            ..self.clone()
        }
    }
}

const NOW: &str = "2026-11-24T12:00:00Z";

/// botocore's `SigV4Auth`.
fn invoke() -> Signed {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/lambda/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-invocation-type;x-amz-log-type, \
         Signature=da55fc858b32da7fa220d7050554ecf97544cd25a74b7835de1c2803511d3e52";
    Signed {
        method: "POST",
        uri: "http://127.0.0.1:9080/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3A\
              probe/invocations?Qualifier=%24LATEST"
            .to_owned(),
        fields: vec![
            ("authorization", authorization.to_owned()),
            ("x-amz-date", "20261124T120000Z".to_owned()),
            ("x-amz-invocation-type", "RequestResponse".to_owned()),
            ("x-amz-log-type", "Tail".to_owned()),
            ("content-length", "8".to_owned()),
        ],
        body: r#"{"n": 1}"#,
        service: "lambda",
    }
}

/// The same, of a body whose digest is announced.
fn announced() -> Signed {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/lambda/aws4_request, \
         SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
         Signature=2673d60a93d3daa146da37aca4622efb5bf4de68bf6bd19b92d31651a7a79ef6";
    let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    Signed {
        method: "PUT",
        uri: "http://127.0.0.1:9080/2015-03-31/functions/probe/code".to_owned(),
        fields: vec![
            ("authorization", authorization.to_owned()),
            ("x-amz-content-sha256", digest.to_owned()),
            ("x-amz-date", "20261124T120000Z".to_owned()),
        ],
        body: "{}",
        service: "lambda",
    }
}

/// botocore's `SigV4QueryAuth`, good for a minute.
fn presigned() -> Signed {
    Signed {
        method: "GET",
        uri: "http://127.0.0.1:9080/2015-03-31/functions/probe?Qualifier=live&X-Amz-Algorithm=AWS4-HMAC-SHA256&\
              X-Amz-Credential=AKIDEXAMPLE%2F20261124%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date=20261124T120000Z&\
              X-Amz-Expires=60&X-Amz-SignedHeaders=host&\
              X-Amz-Signature=d03747e0d8401c91bc988e618fb7b3053b55094a82380a3db886e8c0fa6aab9c"
            .to_owned(),
        fields: Vec::new(),
        body: "",
        service: "lambda",
    }
}

/// Method, target, fields, body and signature.
type Vector<'a> = (
    &'static str,
    &'a str,
    &'a [(&'static str, &'a str)],
    &'static str,
    &'a str,
);

#[test]
fn what_aws_signed_is_verified() {
    // Those of the suite that hyper would let through, and that need no folding of the path.
    let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let vectors: &[Vector<'_>] = &[
        (
            "GET",
            "/",
            &[],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "GET",
            "/",
            &[
                ("my-header1", "value2"),
                ("my-header1", "value2"),
                ("my-header1", "value1"),
            ],
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "/",
            &[
                ("my-header1", "value4"),
                ("my-header1", "value1"),
                ("my-header1", "value3"),
                ("my-header1", "value2"),
            ],
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "POST",
            "/",
            &[("my-header1", "VALUE1")],
            "",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            "GET",
            &format!("/{unreserved}"),
            &[],
            "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=Value1",
            &[],
            "",
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=value1",
            &[],
            "",
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            "GET",
            &format!("/?{unreserved}={unreserved}"),
            &[],
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "GET",
            "/?%E1%88%B4=bar",
            &[],
            "",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            "POST",
            "/",
            &[("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "POST",
            "/",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf8",
            )],
            "Param1=value1",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        ),
    ];
    for (method, target, fields, body, signature) in vectors {
        let mut signed: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        signed.extend(["host", "x-amz-date"]);
        signed.sort_unstable();
        signed.dedup();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, \
             Signature={signature}",
            signed.join(";")
        );
        let mut fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        fields.push(("authorization", authorization));
        fields.push(("x-amz-date", "20150830T123600Z".to_owned()));
        let request = Signed {
            method,
            uri: format!("http://example.amazonaws.com{target}"),
            fields,
            body,
            service: "service",
        };
        assert_eq!(
            request.judge("2015-08-30T12:36:00Z"),
            Ok(()),
            "{method} {target} {:?}",
            request.fields
        );
    }
}

#[test]
fn paths_are_encoded_once_more() {
    for (sent, canonical) in [
        // Of AWS's suite; HTTP has no such request targets.
        ("/ሴ", "/%E1%88%B4"),
        ("/example space/", "/example%20space/"),
        // As Lambda's clients sign what they sent.
        ("/functions/a%3Ab", "/functions/a%253Ab"),
        ("/functions/a:b", "/functions/a%3Ab"),
        ("/", "/"),
        // Folded by AWS, not by us: the signature is for the path that is routed.
        ("//a/./..", "//a/./.."),
    ] {
        assert_eq!(canonical::path(sent), canonical, "{sent}");
    }
}

#[test]
fn what_botocore_signed_is_verified() {
    for request in [invoke(), announced(), presigned()] {
        assert_eq!(request.judge(NOW), Ok(()), "{}", request.uri);
    }
    // A space is signed as `%20` and sent as `+`.
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/lambda/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=2b46f6bfe5f92c23e2f15a590dfda990143ace0a40238063e2b35078965f0b34";
    let list = Signed {
        method: "GET",
        uri: "http://127.0.0.1:9080/2015-03-31/functions/?Marker=a+b%2Fc%2Bd%3De~&MaxItems=50"
            .to_owned(),
        fields: vec![
            ("authorization", authorization.to_owned()),
            ("x-amz-date", "20261124T120000Z".to_owned()),
        ],
        body: "",
        service: "lambda",
    };
    assert_eq!(list.judge(NOW), Ok(()));
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let mismatch = || Err(Refusal::mismatch());
    let (invoke, announced, presigned) = (invoke(), announced(), presigned());
    for changed in [
        Signed {
            method: "PUT",
            ..invoke.clone()
        },
        Signed {
            body: r#"{"n": 2}"#,
            ..invoke.clone()
        },
        Signed {
            body: "",
            ..invoke.clone()
        },
        invoke.at("127.0.0.1:9080", "127.0.0.1:9081"),
        invoke.at("127.0.0.1:9080", "localhost:9080"),
        invoke.at("probe", "prober"),
        invoke.at("%3A", "%3a"),
        invoke.at("%3A", ":"),
        invoke.at("/functions", "//functions"),
        invoke.at("/functions", "/./functions"),
        invoke.at("%24LATEST", "1"),
        invoke.at("Qualifier", "qualifier"),
        invoke.at("?Qualifier=%24LATEST", ""),
        invoke.at("LATEST", "LATEST&Qualifier=1"),
        invoke.replaced("x-amz-invocation-type", "RequestResponse", "Event"),
        invoke.replaced("x-amz-log-type", "Tail", "None"),
        invoke.with("x-amz-log-type", "Tail"),
        invoke.replaced("x-amz-date", "120000", "120001"),
        invoke.replaced("authorization", "52", "53"),
        announced.replaced("x-amz-content-sha256", "4", "5"),
        presigned.at("Qualifier=live", "Qualifier=test"),
        presigned.at("Expires=60", "Expires=61"),
        presigned.at("Date=20261124T120000Z", "Date=20261124T120001Z"),
        presigned.at("aab9c", "aab9d"),
        Signed {
            method: "DELETE",
            ..presigned.clone()
        },
        Signed {
            body: "{}",
            ..presigned.clone()
        },
    ] {
        assert_eq!(
            changed.judge(NOW),
            mismatch(),
            "{} {:?}",
            changed.uri,
            changed.fields
        );
    }
}

#[test]
fn a_signature_is_good_for_its_time_region_and_service() {
    let (invoke, presigned) = (invoke(), presigned());
    for (request, now, problem) in [
        (&invoke, "2026-11-24T12:05:00Z", None),
        (&invoke, "2026-11-24T11:55:00Z", None),
        (&invoke, "2026-11-24T12:05:01Z", Some("Signature expired")),
        (
            &invoke,
            "2026-11-24T11:54:59Z",
            Some("Signature not yet current"),
        ),
        (&invoke, "2027-11-24T12:00:00Z", Some("Signature expired")),
        (&presigned, "2026-11-24T12:01:00Z", None),
        (
            &presigned,
            "2026-11-24T12:01:01Z",
            Some("Signature expired"),
        ),
        (
            &presigned,
            "2026-11-24T11:54:59Z",
            Some("Signature not yet current"),
        ),
    ] {
        match (request.judge(now), problem) {
            (Ok(()), None) => {}
            (Err(Refusal::Invalid(message)), Some(problem)) if message.starts_with(problem) => {}
            (judged, _) => panic!("{now}: {judged:?}"),
        }
    }
    for (from, to, problem) in [
        (
            "us-east-1",
            "us-west-2",
            "Credential should be scoped to a valid region: 'us-east-1'.",
        ),
        (
            "lambda",
            "s3",
            "Credential should be scoped to correct service: 'lambda'.",
        ),
        (
            "20261124",
            "20261123",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261124'.",
        ),
    ] {
        let changed = invoke.replaced("authorization", from, to);
        assert_eq!(changed.judge(NOW), Err(Refusal::invalid(problem)));
    }
    let unknown = invoke.replaced("authorization", "AKIDEXAMPLE", "AKIDEXAMPLF");
    assert_eq!(unknown.judge(NOW), Err(Refusal::Unrecognized));
    let temporary = invoke.with("x-amz-security-token", "t");
    let hidden = invoke.replaced(
        "authorization",
        "x-amz-log-type",
        "x-amz-log-type;x-amz-security-token",
    );
    assert!(
        matches!(temporary.judge(NOW), Err(Refusal::Invalid(_))),
        "not signed"
    );
    assert_eq!(
        hidden.with("x-amz-security-token", "t").judge(NOW),
        Err(Refusal::mismatch())
    );
}

#[test]
fn what_is_not_signed_and_not_whole_is_refused() {
    let (invoke, announced, presigned) = (invoke(), announced(), presigned());
    let authorization = |from, to| invoke.replaced("authorization", from, to);
    let huge = format!("x-amz-log-type;{}", "y".repeat(MAX_AUTHORIZATION));
    for (changed, code, part) in [
        (
            invoke.without("authorization"),
            "MissingAuthenticationTokenException",
            "",
        ),
        (
            invoke.with("x-amz-client-context", "e30="),
            "InvalidSignatureException",
            "x-amz-client-context is in",
        ),
        (
            presigned.with("x-amz-invocation-type", "Event"),
            "InvalidSignatureException",
            "x-amz-invocation-type is",
        ),
        (
            invoke.without("x-amz-log-type"),
            "IncompleteSignatureException",
            "'x-amz-log-type' is named",
        ),
        (
            invoke.without("x-amz-date"),
            "IncompleteSignatureException",
            "'X-Amz-Date'",
        ),
        (
            invoke.with("x-amz-date", "20261124T120000Z"),
            "IncompleteSignatureException",
            "'X-Amz-Date'",
        ),
        (
            invoke.replaced("x-amz-date", "Z", "X"),
            "IncompleteSignatureException",
            "basic format",
        ),
        (
            invoke.replaced("x-amz-date", "1124", "1324"),
            "IncompleteSignatureException",
            "basic format",
        ),
        (
            authorization("host;", ""),
            "IncompleteSignatureException",
            "'Host'",
        ),
        (
            authorization("host;x-amz-date", "x-amz-date;host"),
            "IncompleteSignatureException",
            "in order",
        ),
        (
            authorization("host;", "host;host;"),
            "IncompleteSignatureException",
            "in order",
        ),
        (
            authorization("host;", "Host;"),
            "IncompleteSignatureException",
            "lower case",
        ),
        (
            authorization("Credential=", "Key="),
            "IncompleteSignatureException",
            "'Credential'",
        ),
        (
            authorization("SignedHeaders=", "Signed="),
            "IncompleteSignatureException",
            "'SignedHeaders'",
        ),
        (
            authorization("Signature=", "Sign="),
            "IncompleteSignatureException",
            "'Signature'",
        ),
        (
            authorization("Signature=", ""),
            "IncompleteSignatureException",
            "equal-sign",
        ),
        (
            authorization("Signature=da", "Signature=DA"),
            "IncompleteSignatureException",
            "64 hexadecimal",
        ),
        (
            authorization("Signature=da", "Signature="),
            "IncompleteSignatureException",
            "64 hexadecimal",
        ),
        (
            authorization("Signature=", "Signature=x, Signature="),
            "IncompleteSignatureException",
            "more than once",
        ),
        (
            authorization("/aws4_request", ""),
            "IncompleteSignatureException",
            "5 slash",
        ),
        (
            authorization("/aws4_request", "/aws4"),
            "IncompleteSignatureException",
            "5 slash",
        ),
        (
            authorization("/lambda", "/lambda/x"),
            "IncompleteSignatureException",
            "5 slash",
        ),
        (
            authorization("AKIDEXAMPLE", ""),
            "UnrecognizedClientException",
            "",
        ),
        (
            authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            "IncompleteSignatureException",
            "algorithm",
        ),
        (
            authorization("AWS4-HMAC-SHA256", "AWS4-"),
            "IncompleteSignatureException",
            "algorithm",
        ),
        (
            authorization("x-amz-log-type", &huge),
            "IncompleteSignatureException",
            "longer than",
        ),
        (
            invoke.with("authorization", "Bearer x"),
            "IncompleteSignatureException",
            "more than one",
        ),
        (
            announced.replaced("x-amz-content-sha256", "44136fa3", "sha256:4"),
            "InvalidSignatureException",
            "x-amz-content-sha256 must",
        ),
        (
            announced.with("x-amz-content-sha256", ""),
            "InvalidSignatureException",
            "x-amz-content-sha256 must",
        ),
        (
            presigned.at("Expires=60", "Expires=0"),
            "IncompleteSignatureException",
            "604800",
        ),
        (
            presigned.at("Expires=60", "Expires=604801"),
            "IncompleteSignatureException",
            "604800",
        ),
        (
            presigned.at("Expires=60", "Expires=-1"),
            "IncompleteSignatureException",
            "604800",
        ),
        (
            presigned.at("X-Amz-Expires=60&", ""),
            "IncompleteSignatureException",
            "'X-Amz-Expires'",
        ),
        (
            presigned.at("X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""),
            "IncompleteSignatureException",
            "'X-Amz-Algorithm'",
        ),
        (
            presigned.at("?", "?X-Amz-Expires=60&"),
            "IncompleteSignatureException",
            "more than once",
        ),
        (
            presigned.at("?", "?%58-Amz-Date=20261124T120000Z&"),
            "IncompleteSignatureException",
            "more than once",
        ),
        (
            presigned.at("?", "?X-Amz-Security-Token=t&"),
            "InvalidSignatureException",
            "does not match",
        ),
        (
            Signed {
                fields: invoke.fields.clone(),
                ..presigned.clone()
            },
            "IncompleteSignatureException",
            "not in both",
        ),
    ] {
        let refusal = changed.judge(NOW).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal} {:?}", changed.fields);
        assert!(refusal.to_string().contains(part), "{refusal}, not {part}");
    }
    for payload in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ] {
        let mut changed = announced.clone();
        payload.clone_into(changed.field("x-amz-content-sha256"));
        let refusal = changed.judge(NOW).unwrap_err();
        assert!(refusal.to_string().contains("not supported"), "{refusal}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_makes_the_node_panic(
        authorization in "AWS4-HMAC-SHA256 [ -~]{0,200}|Credential=[a/]{0,20},SignedHeaders=[a-z;]{0,20}",
        query in "[-a-zA-Z0-9=&%+]{0,100}",
        presigned in "X-Amz-(Date|Credential|Expires|SignedHeaders|Signature)=[0-9TZ/%]{0,40}",
        date in "[ -~]{0,20}",
    ) {
        let uri = format!("http://h/?X-Amz-Algorithm=AWS4-HMAC-SHA256&{presigned}&{query}");
        for (uri, authorization) in [("http://h/", authorization.as_str()), (&uri, "")] {
            let fields = vec![("authorization", authorization.to_owned()), ("x-amz-date", date.clone())];
            let request = Signed { method: "GET", uri: uri.to_owned(), fields, body: "", service: "lambda" };
            prop_assert!(request.judge(NOW).is_err());
        }
    }

    #[test]
    fn a_query_means_the_same_in_any_order_and_encoding(
        pairs in proptest::collection::vec(("[ -~é]{1,8}", "[ -~é]{0,8}"), 0..6),
    ) {
        let plain = |text: &str| text.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
        let all: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", plain(name), plain(value))).collect();
        let canonical = canonical::query(&all.join("&"));
        let reversed: Vec<_> = all.iter().rev().cloned().collect();
        prop_assert_eq!(&canonical::query(&reversed.join("&&")), &canonical);
        // It is its own canonical form.
        prop_assert_eq!(&canonical::query(&canonical), &canonical);
        prop_assert_eq!(canonical::parameters(&canonical).count(), pairs.len());
    }
}
