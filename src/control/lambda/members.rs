//! A function's configuration as Lambda's API has it, and as a node runs it.
//!
//! What a node acts on goes into the [`FunctionConfiguration`]; what it only keeps is given back as it came. What it cannot
//! do is refused: a function whose owner believes that it runs in a VPC must not run outside of it.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::reference::{Reference, invalid};
use crate::{
    control::aws::Error,
    model::{
        Arns, AttachedLayer, ByteSize, Deployment, Digest, FunctionConfiguration, LambdaSettings,
        MAX_ENVIRONMENT, Version, Vpc, VpcConfig,
    },
};

/// The largest values of the model's members that Wharf has (Lambda quotas; the model allows more for managed instances).
const MAX_MEMORY: u64 = 10_240;
const MAX_TIMEOUT: u64 = 900;
const MAX_STORAGE: u64 = 10_240;

/// Members that are kept and given back.
const KEPT: &[&str] = &[
    "Runtime",
    "Role",
    "Handler",
    "PackageType",
    "VpcConfig",
    "DeadLetterConfig",
    "TracingConfig",
    "SnapStart",
    "Architectures",
    "LoggingConfig",
    "KMSKeyArn",
    "FileSystemConfigs",
    "ImageConfig",
];

/// Members that Wharf cannot honour, unless they say nothing, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "FileSystemConfigs",
        "this node has no EFS; a folder of the node is granted in the function's manifest",
    ),
    (
        "KMSKeyArn",
        "this node has no KMS; environment variables are encrypted with the node's own key",
    ),
    (
        "ImageConfig",
        "a component has no entry point, command or working directory to be set",
    ),
    (
        "TenancyConfig",
        "an instance serves one invocation, or those of one function",
    ),
    (
        "CapacityProviderConfig",
        "this node has no capacity providers",
    ),
    ("DurableConfig", "this node has no durable executions"),
    (
        "RuntimeConfig",
        "a component brings its runtime, and the node's is wasmtime",
    ),
    ("AcceleratorConfig", "this node has no accelerators"),
    (
        "PublishTo",
        "this node publishes numbered versions only; use Publish",
    ),
];

/// Names of environment variables that Lambda keeps for itself (Developer Guide, "Defined runtime environment variables").
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

/// Changes a configuration by the members that are given.
pub(super) fn apply(
    input: &Map<String, Value>,
    arns: &Arns,
    configuration: &mut FunctionConfiguration,
    lambda: &mut LambdaSettings,
) -> Result<(), Error> {
    for (member, why) in REFUSED {
        if input.get(*member).is_some_and(says_something) {
            return Err(invalid(format!("Wharf cannot honour {member}: {why}.")));
        }
    }
    if let Some(mode) = input
        .get("TracingConfig")
        .and_then(|tracing| tracing["Mode"].as_str())
        && mode != "PassThrough"
    {
        return Err(invalid(
            "Wharf cannot honour TracingConfig: this node sends no traces to X-Ray; the Mode PassThrough hands a caller's \
             trace context on.",
        ));
    }
    if let Some(target) = input
        .get("DeadLetterConfig")
        .and_then(|config| config["TargetArn"].as_str())
    {
        dead_letter_target(target, arns)?;
    }
    if let Some(logging) = input.get("LoggingConfig") {
        let level = ["ApplicationLogLevel", "SystemLogLevel"]
            .into_iter()
            .find(|level| logging.get(level).is_some_and(says_something));
        if let Some(level) = level
            && logging.get("LogFormat") != Some(&json!("JSON"))
        {
            return Err(invalid(format!(
                "{level} is only supported when the LogFormat is set to JSON. Set LogFormat to JSON, or leave {level} out."
            )));
        }
    }
    if let Some(description) = input.get("Description").and_then(Value::as_str) {
        description.clone_into(&mut configuration.description);
    }
    if let Some(memory) = number(input, "MemorySize", MAX_MEMORY)? {
        configuration.memory = Some(ByteSize::mb(memory));
    }
    if let Some(timeout) = number(input, "Timeout", MAX_TIMEOUT)? {
        configuration.timeout = Some(Duration::from_secs(timeout));
    }
    if let Some(Value::Object(storage)) = input.get("EphemeralStorage")
        && let Some(size) = number(storage, "Size", MAX_STORAGE)?
    {
        configuration.tmp = ByteSize::mb(size);
    }
    if let Some(environment) = input.get("Environment") {
        configuration.environment = variables(environment)?;
    }
    for member in KEPT {
        if let Some(value) = input.get(*member) {
            match says_something(value) {
                true => lambda.members.insert((*member).to_owned(), value.clone()),
                false => lambda.members.remove(*member),
            };
        }
    }
    Ok(())
}

/// Refuses members that code may come with and that Wharf cannot honour.
pub(super) fn refuse_of_code(input: &Map<String, Value>) -> Result<(), Error> {
    for (member, why) in [
        (
            "PublishTo",
            "this node publishes numbered versions only; use Publish",
        ),
        (
            "S3ObjectStorageMode",
            "this node copies code, and refers to none elsewhere",
        ),
    ] {
        let taken = member == "S3ObjectStorageMode" && input.get(member) == Some(&json!("COPY"));
        if input.get(member).is_some_and(says_something) && !taken {
            return Err(invalid(format!("Wharf cannot honour {member}: {why}.")));
        }
    }
    Ok(())
}

/// A member that is there, and not only to say that there is nothing.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => members.values().any(says_something),
        Value::Bool(flag) => *flag,
        Value::Number(_) => true,
    }
}

fn number(input: &Map<String, Value>, member: &str, max: u64) -> Result<Option<u64>, Error> {
    match input.get(member).and_then(Value::as_u64) {
        Some(value) if value > max => Err(invalid(format!(
            "'{member}' value failed to satisfy constraint: Member must have value less than or equal to {max}"
        ))),
        value => Ok(value),
    }
}

fn variables(environment: &Value) -> Result<BTreeMap<String, String>, Error> {
    const UNABLE: &str = "Lambda was unable to configure your environment variables because the environment variables you \
                          have provided";
    let Some(variables) = environment["Variables"].as_object() else {
        return Ok(BTreeMap::new());
    };
    let reserved: Vec<&str> = variables
        .keys()
        .map(String::as_str)
        .filter(|name| RESERVED.contains(name))
        .collect();
    if !reserved.is_empty() {
        return Err(invalid(format!(
            "{UNABLE} contains reserved keys that are currently not supported for modification. Reserved keys used in this \
             request: {}",
            reserved.join(", ")
        )));
    }
    let size: usize = variables
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ENVIRONMENT {
        // Their values are nobody's business, so their size is told and not they.
        return Err(invalid(format!(
            "{UNABLE} exceeded the 4KB limit: they have {size} bytes."
        )));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(variables
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect())
}

/// Whether the node has the subnets and security groups that a function is to be in.
pub(super) fn check_vpc(input: &Map<String, Value>, vpc: &Vpc) -> Result<(), Error> {
    let Some(config) = input
        .get("VpcConfig")
        .filter(|config| says_something(config))
    else {
        return Ok(());
    };
    let config = VpcConfig::deserialize(config).map_err(|error| invalid(error.to_string()))?;
    if config.subnet_ids.is_empty() || config.security_group_ids.is_empty() {
        return Err(invalid(
            "SubnetIds and SecurityIds must coexist or be both empty list.",
        ));
    }
    let mut subnets = config.subnet_ids.iter();
    if let Some(id) = subnets.find(|id| !vpc.subnets.contains_key(*id)) {
        return Err(invalid(format!(
            "The subnet ID '{id}' does not exist: the node's configuration file names its subnets below [vpc.subnets]."
        )));
    }
    let mut groups = config.security_group_ids.iter();
    if let Some(id) = groups.find(|id| !vpc.security_groups.contains_key(*id)) {
        return Err(invalid(format!(
            "The security group ID '{id}' does not exist: the node's configuration file names its security groups below \
             [vpc.security_groups]."
        )));
    }
    Ok(())
}

/// Whether dead letters can go there.
fn dead_letter_target(target: &str, arns: &Arns) -> Result<(), Error> {
    let is_function = target.contains(":lambda:") && Reference::read(target, None, arns).is_ok();
    match target.is_empty() || is_function {
        true => Ok(()),
        false => Err(invalid(format!(
            "The provided dead letter target {target} is not supported: Wharf sends dead letters to functions of this node \
             (arn:aws:lambda:…:function:NAME), and not to SQS or SNS yet."
        ))),
    }
}

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is served.
    Active,
    /// It is being compiled, and there was none before.
    Creating,
    /// It is being compiled, and the one before is served.
    Updating,
    /// It could not be compiled, and there was none before.
    CreateFailed(String),
    /// It could not be compiled, and the one before is served.
    UpdateFailed(String),
}

/// A deployment as `FunctionConfiguration` of the model. `qualifier` is what stands in its ARN.
pub(super) fn document(
    deployment: &Deployment,
    qualifier: Option<&str>,
    progress: &Progress,
    arns: &Arns,
) -> Value {
    let Deployment {
        name,
        version,
        code_size,
        configuration,
        modified_ms,
        lambda,
        ..
    } = deployment;
    let name = name.as_str();
    let package = lambda.package.as_ref();
    // Lambda gives images no size.
    let size = package.map_or(*code_size, |package| match package.image {
        Some(_) => 0,
        None => package.size,
    });
    let published = (*version != Version::Latest).then(|| version.to_string());
    let qualifier = qualifier.map(str::to_owned).or(published);
    let arn = arns.function(
        name,
        qualifier
            .as_ref()
            .map(|qualifier| qualifier as &dyn std::fmt::Display),
    );
    let log_group = format!("/aws/lambda/{name}");
    let limits = deployment.limits();
    let mut document = json!({
        "FunctionName": name,
        "FunctionArn": arn,
        "CodeSize": size,
        "CodeSha256": code_sha256(deployment),
        "Description": configuration.description,
        "Timeout": limits.timeout.as_millis().div_ceil(1000),
        "MemorySize": limits.memory.as_mb(),
        "LastModified": time(*modified_ms),
        "Version": version.to_string(),
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": revision_id("function", &format!("{name}:{version}"), deployment.revision),
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": configuration.tmp.as_mb()},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": log_group},
    });
    for (member, value) in &lambda.members {
        match (member.as_str(), &mut document[member.as_str()], value) {
            // What was left out has its default.
            ("LoggingConfig" | "SnapStart", Value::Object(defaults), Value::Object(given)) => {
                defaults.extend(given.clone());
            }
            (_, place, value) => *place = value.clone(),
        }
    }
    if document["LoggingConfig"]["LogFormat"] == "JSON"
        && let Value::Object(logging) = &mut document["LoggingConfig"]
    {
        for level in ["ApplicationLogLevel", "SystemLogLevel"] {
            logging.entry(level).or_insert_with(|| "INFO".into());
        }
    }
    // Instances are made ahead of every version, which is what SnapStart is for.
    if document["SnapStart"]["ApplyOn"] == "PublishedVersions" && *version != Version::Latest {
        document["SnapStart"]["OptimizationStatus"] = "On".into();
    }
    if *version != Version::Latest {
        document["MasterArn"] = arns.function(name, Some(&Version::Latest)).into();
    }
    if !lambda.layers.is_empty() {
        let layer = |layer: &AttachedLayer| json!({"Arn": layer.arn, "CodeSize": layer.size});
        document["Layers"] = lambda.layers.iter().map(layer).collect();
    }
    if !configuration.environment.is_empty() {
        document["Environment"] = json!({"Variables": configuration.environment});
    }
    let members = match progress {
        Progress::Active => json!({"State": "Active", "LastUpdateStatus": "Successful"}),
        Progress::Creating => json!({
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }),
        Progress::Updating => json!({
            "State": "Active",
            "LastUpdateStatus": "InProgress",
            "LastUpdateStatusReason": "The function is being updated.",
        }),
        Progress::CreateFailed(why) => json!({
            "State": "Failed",
            "StateReason": why,
            "StateReasonCode": "InvalidConfiguration",
            "LastUpdateStatus": "Failed",
            "LastUpdateStatusReason": why,
            "LastUpdateStatusReasonCode": "InvalidConfiguration",
        }),
        Progress::UpdateFailed(why) => json!({
            "State": "Active",
            "LastUpdateStatus": "Failed",
            "LastUpdateStatusReason": why,
            "LastUpdateStatusReasonCode": "InvalidConfiguration",
        }),
    };
    if let (Value::Object(document), Value::Object(members)) = (&mut document, members) {
        document.extend(members);
    }
    document
}

/// The digest of the code as the API writes it: in base64 of what was uploaded, in hexadecimal of an image's manifest.
pub(super) fn code_sha256(deployment: &Deployment) -> String {
    let package = deployment.lambda.package.as_ref();
    let image = package.and_then(|package| package.image.as_ref());
    match image.and_then(|(_, resolved)| resolved.split_once("@sha256:")) {
        Some((_, digest)) => digest.to_owned(),
        None => base64(package.map_or(&deployment.code, |package| &package.digest)),
    }
}

/// A digest as the API writes it.
pub(in crate::control) fn base64(digest: &Digest) -> String {
    use ::base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(digest.as_bytes())
}

/// A moment as the API writes it: `2026-11-25T01:02:03.004+0000`.
pub(in crate::control) fn time(milliseconds: u64) -> String {
    let timestamp = i64::try_from(milliseconds)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

/// The id of a revision of something: another revision has another one.
pub(in crate::control) fn revision_id(kind: &str, key: &str, revision: u64) -> String {
    let digest = Digest::of(format!("{kind}/{key}/{revision}").as_bytes());
    let bytes = *digest
        .as_bytes()
        .first_chunk()
        .expect("a digest is longer than a UUID");
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}
