//! What a call is held against policies for: an action, and the ARNs that it is on.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Lambda", "… for Amazon CloudWatch
//! Logs".

use http::{Method, Uri};
use serde_json::{Map, Value};

use super::{Caller, policy::Context};
use crate::{control::lambda::Reference, model::Version};

/// An action on resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Subject {
    /// As `lambda:GetFunction`.
    pub(in crate::control) action: String,
    /// ARNs, or `*` where the action is on nothing in particular.
    pub(in crate::control) resources: Vec<String>,
    /// What conditions may ask about.
    pub(in crate::control) context: Context,
}

impl Subject {
    /// An action on one resource.
    pub(in crate::control) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            resources: vec![resource.into()],
            context: Context::default(),
        }
    }

    /// A call of Lambda's API.
    pub(in crate::control) fn of_lambda(
        operation: &str,
        input: &Map<String, Value>,
        caller: &Caller,
    ) -> Self {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        let arn = |rest: &str| caller.arn_of("lambda", rest);
        let action = match operation {
            "Invoke" | "InvokeAsync" | "InvokeWithResponseStream" => "InvokeFunction",
            "GetLayerVersionByArn" => "GetLayerVersion",
            other => other,
        };
        let about_mapping =
            operation.ends_with("EventSourceMapping") || operation.ends_with("EventSourceMappings");
        let resource = if let Some(arn) = text("Resource").or(text("Arn")) {
            arn.to_owned()
        } else if let Some(id) = text("UUID") {
            arn(&format!("event-source-mapping:{id}"))
        } else if about_mapping {
            "*".to_owned()
        } else if let Some(name) = text("FunctionName") {
            let qualifier = text("Qualifier").filter(|_| !operation.ends_with("Alias"));
            function_arn(caller, name, qualifier)
        } else if let Some(name) = text("LayerName") {
            let full = if name.starts_with("arn:") {
                name.to_owned()
            } else {
                arn(&format!("layer:{name}"))
            };
            match input.get("VersionNumber").and_then(Value::as_i64) {
                Some(version) => format!("{full}:{version}"),
                None => full,
            }
        } else if let Some(arn) = text("CodeSigningConfigArn") {
            arn.to_owned()
        } else {
            "*".to_owned()
        };
        let mut subject = Self::new(format!("lambda:{action}"), resource);
        let context = &mut subject.context;
        if let Some(name) = text("FunctionName").filter(|_| about_mapping) {
            context.add("lambda:FunctionArn", function_arn(caller, name, None));
        }
        if let Some(name) = text("Principal") {
            context.add("lambda:Principal", name);
        }
        if let Some(kind) = text("AuthType").or(text("FunctionUrlAuthType")) {
            context.add("lambda:FunctionUrlAuthType", kind);
        }
        if let Some(Value::Array(layers)) = input.get("Layers") {
            for layer in layers.iter().filter_map(Value::as_str) {
                context.add("lambda:Layer", layer);
            }
        }
        if let Some(Value::Object(tags)) = input.get("Tags") {
            for (key, value) in tags {
                context.add(
                    &format!("aws:RequestTag/{key}"),
                    value.as_str().unwrap_or_default(),
                );
                context.add("aws:TagKeys", key);
            }
        }
        for key in input
            .get("TagKeys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            context.add("aws:TagKeys", key.as_str().unwrap_or_default());
        }
        subject
    }

    /// A call of the CloudWatch Logs API. Every operation is on the streams of a group, as policies say `GROUP:*`.
    pub(in crate::control) fn of_logs(
        operation: &str,
        input: &Map<String, Value>,
        caller: &Caller,
    ) -> Self {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        let group = |named: &str| {
            // By name, or by ARN with or without `:*` at its end.
            let name = match named.split_once(":log-group:") {
                Some((_, name)) => name.trim_end_matches(":*"),
                None => named,
            };
            let stream = text("logStreamName").unwrap_or_default();
            caller.arn_of("logs", &format!("log-group:{name}:log-stream:{stream}"))
        };
        let lists = ["logGroupIdentifiers", "logGroupNames"].map(|name| input.get(name));
        let mut names: Vec<&str> = lists
            .into_iter()
            .flatten()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        names.extend(
            text("logGroupName")
                .or(text("logGroupIdentifier"))
                .or(text("resourceArn")),
        );
        if names.is_empty() {
            names.push("");
        }
        Self {
            action: format!("logs:{operation}"),
            resources: names.into_iter().map(group).collect(),
            context: Context::default(),
        }
    }

    /// A request for one of the node's own paths.
    pub(in crate::control) fn of_request(method: &Method, uri: &Uri, caller: &Caller) -> Self {
        let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        match (method, &segments[..]) {
            (_, ["metrics"]) => Self::new("wharf:GetMetrics", "*"),
            (_, ["wharf", "v1", "node"]) => Self::new("wharf:GetNode", "*"),
            (&Method::HEAD, ["wharf", "v1", "blobs", ..]) => Self::new("wharf:GetBlob", "*"),
            (_, ["wharf", "v1", "blobs", ..]) => Self::new("wharf:PutBlob", "*"),
            (_, ["wharf", "v1", "deployments"]) => Self::new("wharf:Deploy", "*"),
            (_, ["wharf", "v1", "functions"]) => Self::new("wharf:ListFunctions", "*"),
            (&Method::GET | &Method::HEAD, ["wharf", "v1", "functions", name]) => {
                Self::new("wharf:GetFunction", function_arn(caller, name, None))
            }
            (_, ["wharf", "v1", "functions", name]) => {
                Self::new("wharf:RemoveFunction", function_arn(caller, name, None))
            }
            (_, ["wharf", "v1", "functions", name, "logs"]) => {
                Self::new("wharf:GetLogs", function_arn(caller, name, None))
            }
            (_, ["wharf", "v1", "users"]) => {
                let account = &caller.identity.account;
                Self::new("iam:ListUsers", format!("arn:aws:iam::{account}:user/"))
            }
            (_, ["wharf", "v1", "users", name]) => {
                let account = &caller.identity.account;
                let action = match *method {
                    Method::DELETE => "iam:DeleteUser",
                    _ => "iam:CreateUser",
                };
                Self::new(
                    action,
                    format!("arn:aws:iam::{account}:user/{}", percent_decoded(name)),
                )
            }
            (&Method::GET | &Method::HEAD, ["wharf", "v1", "distributions"]) => {
                Self::new("wharf:ListDistributions", "*")
            }
            (_, ["wharf", "v1", "distributions", name]) => {
                let action = match *method {
                    Method::GET | Method::HEAD => "wharf:GetDistribution",
                    Method::DELETE => "wharf:RemoveDistribution",
                    _ => "wharf:PutDistribution",
                };
                Self::new(action, distribution_arn(caller, name))
            }
            (_, ["wharf", "v1", "distributions", name, "purge"]) => {
                Self::new("wharf:Purge", distribution_arn(caller, name))
            }
            (_, ["wharf", "v1", "cache"]) => Self::new("wharf:GetCache", "*"),
            (_, ["wharf", "v1", "backup"]) => Self::new("wharf:Backup", "*"),
            (_, ["wharf", "v1", "apps", _]) => Self::new("wharf:RemoveApp", "*"),
            // Whatever comes later is for who may do everything, until it is listed here.
            _ => Self::new("wharf:Unlisted", "*"),
        }
    }
}

/// The ARN of a function that is named in whatever way Lambda knows: read as the operation reads it, so that what is
/// allowed is what is done. What names no function is held against policies for everything, and then refused as such.
pub(in crate::control) fn function_arn(
    caller: &Caller,
    named: &str,
    qualifier: Option<&str>,
) -> String {
    let arns = caller.arns();
    match Reference::read(named, qualifier, &arns) {
        // `$LATEST` is the function as it is, and policies are about that without a qualifier.
        Ok(mut reference) => {
            let latest = Some(Version::Latest);
            if reference.version() == latest {
                reference.qualifier = None;
            }
            reference.arn(&arns)
        }
        Err(_) => "*".to_owned(),
    }
}

/// The ARN of a distribution, for policies.
fn distribution_arn(caller: &Caller, name: &str) -> String {
    caller.arn_of("wharf", &format!("distribution/{}", percent_decoded(name)))
}

fn percent_decoded(text: &str) -> String {
    // A form's decoding, but for `+`, which a path has for itself.
    let form = format!("a={}", text.replace('+', "%2B"));
    let pair = url::form_urlencoded::parse(form.as_bytes()).next();
    pair.map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller() -> Caller {
        Caller::user(
            "ann",
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#,
        )
    }

    const LAMBDA: &str = "arn:aws:lambda:us-east-1:000000000000:";

    #[test]
    fn a_call_is_on_what_its_members_name() {
        let layer = format!("{LAMBDA}layer:l");
        for (operation, input, action, resource) in [
            ("ListFunctions", json!({}), "ListFunctions", "*"),
            (
                "GetFunction",
                json!({"FunctionName": "f"}),
                "GetFunction",
                "function:f",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "f:live"}),
                "GetFunction",
                "function:f:live",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "f", "Qualifier": "7"}),
                "GetFunction",
                "function:f:7",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "000000000000:function:f"}),
                "GetFunction",
                "function:f",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "us-east-1:000000000000:function:f"}),
                "GetFunction",
                "function:f",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "myfunction:live"}),
                "GetFunction",
                "function:myfunction:live",
            ),
            (
                "Invoke",
                json!({"FunctionName": "f:$LATEST"}),
                "InvokeFunction",
                "function:f",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "f:live", "Qualifier": "7"}),
                "GetFunction",
                "*",
            ),
            (
                "GetFunction",
                json!({"FunctionName": "arn:aws:lambda:eu-west-1:1:function:f"}),
                "GetFunction",
                "*",
            ),
            (
                "Invoke",
                json!({"FunctionName": format!("{LAMBDA}function:f:live"), "Qualifier": "live"}),
                "InvokeFunction",
                "function:f:live",
            ),
            (
                "GetAlias",
                json!({"FunctionName": "f", "Name": "live"}),
                "GetAlias",
                "function:f",
            ),
            (
                "GetLayerVersion",
                json!({"LayerName": "l", "VersionNumber": 3}),
                "GetLayerVersion",
                "layer:l:3",
            ),
            (
                "GetLayerVersion",
                json!({"LayerName": layer, "VersionNumber": 3}),
                "GetLayerVersion",
                "layer:l:3",
            ),
            (
                "GetLayerVersionByArn",
                json!({"Arn": format!("{layer}:3")}),
                "GetLayerVersion",
                "layer:l:3",
            ),
            (
                "GetEventSourceMapping",
                json!({"UUID": "u"}),
                "GetEventSourceMapping",
                "event-source-mapping:u",
            ),
            (
                "CreateEventSourceMapping",
                json!({"FunctionName": "f"}),
                "CreateEventSourceMapping",
                "*",
            ),
            (
                "ListTags",
                json!({"Resource": format!("{LAMBDA}function:f")}),
                "ListTags",
                "function:f",
            ),
        ] {
            let Value::Object(members) = input else {
                unreachable!("they are objects")
            };
            let subject = Subject::of_lambda(operation, &members, &caller());
            let resource = if resource == "*" {
                "*".to_owned()
            } else {
                format!("{LAMBDA}{resource}")
            };
            assert_eq!(
                (subject.action, subject.resources),
                (format!("lambda:{action}"), vec![resource])
            );
        }
    }

    #[test]
    fn a_call_of_logs_is_on_the_streams_of_a_group() {
        let of = |operation, input: Value| {
            let Value::Object(members) = input else {
                unreachable!("they are objects")
            };
            Subject::of_logs(operation, &members, &caller()).resources
        };
        let group = |rest: &str| format!("arn:aws:logs:us-east-1:000000000000:log-group:{rest}");
        assert_eq!(of("DescribeLogGroups", json!({})), [group(":log-stream:")]);
        assert_eq!(
            of(
                "GetLogEvents",
                json!({"logGroupName": "/a", "logStreamName": "s"})
            ),
            [group("/a:log-stream:s")]
        );
        let two = json!({"logGroupIdentifiers": ["/a", group("/b:*")]});
        assert_eq!(
            of("StartLiveTail", two),
            [group("/a:log-stream:"), group("/b:log-stream:")]
        );
    }

    #[test]
    fn paths_of_the_node_are_actions_too() {
        for (method, path, action, resource) in [
            (
                Method::GET,
                "/wharf/v1/functions/f",
                "wharf:GetFunction",
                "function:f",
            ),
            (
                Method::DELETE,
                "/wharf/v1/functions/f",
                "wharf:RemoveFunction",
                "function:f",
            ),
            (
                Method::GET,
                "/wharf/v1/functions/f/logs",
                "wharf:GetLogs",
                "function:f",
            ),
        ] {
            let subject = Subject::of_request(&method, &path.parse().unwrap(), &caller());
            assert_eq!(
                (subject.action.as_str(), subject.resources),
                (action, vec![format!("{LAMBDA}{resource}")])
            );
        }
        let other = Subject::of_request(&Method::GET, &"/wharf/v1/new".parse().unwrap(), &caller());
        assert_eq!(other.action, "wharf:Unlisted");
    }
}
