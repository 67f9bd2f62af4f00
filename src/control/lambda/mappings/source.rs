//! The kinds of event sources, and what a mapping of each may say (Lambda Developer Guide, the parameters of each source).

use std::fmt;

use serde_json::{Map, Value, json};

use super::filter;
use crate::{
    control::{aws::Error, lambda::reference::invalid},
    model::EventTarget,
};

/// The most filters of a mapping (Lambda quota: 5, and 10 on request).
const MAX_FILTERS: usize = 10;

/// What events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Sqs,
    SqsFifo,
    Kinesis,
    DynamoDb,
    /// Amazon MSK.
    Msk,
    /// A Kafka cluster of the user's own.
    Kafka,
    Mq,
    DocumentDb,
}

use Source::{DocumentDb, DynamoDb, Kafka, Kinesis, Mq, Msk, Sqs, SqsFifo};

/// Members that not every source takes, and those that take it.
const TAKEN_BY: &[(&str, &[Source])] = &[
    (
        "StartingPosition",
        &[Kinesis, DynamoDb, Msk, Kafka, DocumentDb],
    ),
    (
        "StartingPositionTimestamp",
        &[Kinesis, DynamoDb, Msk, Kafka, DocumentDb],
    ),
    ("ParallelizationFactor", &[Kinesis, DynamoDb]),
    ("TumblingWindowInSeconds", &[Kinesis, DynamoDb]),
    (
        "BisectBatchOnFunctionError",
        &[Kinesis, DynamoDb, Msk, Kafka],
    ),
    (
        "MaximumRecordAgeInSeconds",
        &[Kinesis, DynamoDb, Msk, Kafka],
    ),
    ("MaximumRetryAttempts", &[Kinesis, DynamoDb, Msk, Kafka]),
    ("DestinationConfig", &[Kinesis, DynamoDb, Msk, Kafka]),
    (
        "FunctionResponseTypes",
        &[Sqs, SqsFifo, Kinesis, DynamoDb, Msk, Kafka],
    ),
    ("ScalingConfig", &[Sqs, SqsFifo]),
    ("ProvisionedPollerConfig", &[Sqs, Msk, Kafka]),
    ("Topics", &[Msk, Kafka]),
    ("Queues", &[Mq]),
    ("SourceAccessConfigurations", &[Msk, Kafka, Mq, DocumentDb]),
    ("AmazonManagedKafkaEventSourceConfig", &[Msk]),
    ("SelfManagedEventSource", &[Kafka]),
    ("SelfManagedKafkaEventSourceConfig", &[Kafka]),
    ("DocumentDBEventSourceConfig", &[DocumentDb]),
];

/// Members that a source must have.
const REQUIRED: &[(&str, &str, &[Source])] = &[
    (
        "StartingPosition",
        "startingPosition",
        &[Kinesis, DynamoDb, Msk, DocumentDb],
    ),
    ("Topics", "topics", &[Msk, Kafka]),
    ("Queues", "queues", &[Mq]),
    (
        "SourceAccessConfigurations",
        "sourceAccessConfigurations",
        &[Kafka, Mq, DocumentDb],
    ),
    (
        "DocumentDBEventSourceConfig",
        "documentDBEventSourceConfig",
        &[DocumentDb],
    ),
];

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Sqs | SqsFifo => "SQS queues",
            Kinesis => "Kinesis streams",
            DynamoDb => "DynamoDB streams",
            Msk => "Amazon MSK clusters",
            Kafka => "Kafka clusters",
            Mq => "Amazon MQ brokers",
            DocumentDb => "DocumentDB change streams",
        })
    }
}

impl Source {
    /// What a mapping's members are about.
    pub(super) fn of(members: &Map<String, Value>) -> Result<Self, Error> {
        let unrecognized = || invalid("Unrecognized event source.");
        let Some(arn) = text(members, "EventSourceArn") else {
            let itself = members.contains_key("SelfManagedEventSource");
            return itself.then_some(Kafka).ok_or_else(unrecognized);
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, service, region, account, resource] = parts[..] else {
            return Err(unrecognized());
        };
        if region.is_empty() || account.is_empty() {
            return Err(unrecognized());
        }
        match service {
            "sqs" if resource.ends_with(".fifo") => Ok(SqsFifo),
            "sqs" => Ok(Sqs),
            "kinesis" if resource.starts_with("stream/") => Ok(Kinesis),
            "dynamodb" if resource.contains("/stream/") => Ok(DynamoDb),
            "kafka" if resource.starts_with("cluster/") => Ok(Msk),
            "mq" if resource.starts_with("broker:") => Ok(Mq),
            "rds" if resource.starts_with("cluster:") => Ok(DocumentDb),
            _ => Err(unrecognized()),
        }
    }

    /// What tells the source of one mapping from that of another.
    pub(super) fn identity(self, members: &Map<String, Value>) -> String {
        let mut endpoints = endpoints(members);
        endpoints.sort_unstable();
        let part = ["Topics", "Queues"].map(|name| first(members, name));
        [
            &[text(members, "EventSourceArn").unwrap_or_default()],
            &endpoints[..],
            &part,
        ]
        .concat()
        .join("\n")
    }

    /// What is said when there is a mapping of that source to that function.
    pub(super) fn taken(
        self,
        members: &Map<String, Value>,
        function: &EventTarget,
        uuid: &str,
    ) -> String {
        let arn = text(members, "EventSourceArn").unwrap_or_default();
        let name = &function.function;
        let what = match self {
            Sqs | SqsFifo => format!(
                "An event source mapping with SQS arn (\" {arn} \") and function (\" {name} \") already exists."
            ),
            Kinesis | DynamoDb | Mq | DocumentDb => format!(
                "The event source arn (\" {arn} \") and function (\" {name} \") provided mapping already exists."
            ),
            Msk | Kafka => {
                let source = match arn {
                    "" => endpoints(members).join(","),
                    arn => arn.to_owned(),
                };
                let topic = first(members, "Topics");
                format!(
                    "An event source mapping with event source (\"{source}\"), function (\"{name}\"), topics (\"{topic}\") already \
                     exists."
                )
            }
        };
        format!("{what} Please update or delete the existing mapping with UUID {uuid}")
    }

    /// The most records of a batch, and how many where nobody says.
    fn batch(self) -> (u64, u64) {
        match self {
            Sqs => (10_000, 10),
            SqsFifo => (10, 10),
            Kinesis | DynamoDb | Msk | Kafka | Mq | DocumentDb => (10_000, 100),
        }
    }

    /// Whether members are what Lambda takes for this source.
    pub(super) fn check(self, members: &Map<String, Value>, now_ms: u64) -> Result<(), Error> {
        for (name, takers) in TAKEN_BY {
            if members.contains_key(*name) && !takers.contains(&self) {
                return Err(invalid(format!(
                    "Unsupported {name} parameter for given event source mapping type."
                )));
            }
        }
        for (name, in_message, sources) in REQUIRED {
            let given = members
                .get(*name)
                .is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()));
            if sources.contains(&self) && !given {
                return Err(invalid(match *name {
                    "StartingPosition" => format!(
                        "1 validation error detected: Value null at '{in_message}' failed to satisfy constraint: Member must not \
                         be null."
                    ),
                    _ => format!("Required '{in_message}' parameter is missing."),
                }));
            }
        }
        self.check_batch(members)?;
        self.check_position(members, now_ms)?;
        self.check_destinations(members)?;
        check_filters(members)?;
        let age = number(members, "MaximumRecordAgeInSeconds");
        if age.is_some_and(|age| age != -1 && age < 60) {
            return Err(invalid(
                "MaximumRecordAgeInSeconds has to be -1, which is for ever, or from 60 to 604800.",
            ));
        }
        if self == DocumentDb
            && members
                .get("DocumentDBEventSourceConfig")
                .is_some_and(|config| config["DatabaseName"].is_null())
        {
            return Err(invalid("Required 'databaseName' parameter is missing."));
        }
        check_pollers(members)?;
        if text(members, "KMSKeyArn").is_some_and(|key| !key.is_empty()) {
            return Err(invalid(
                "Wharf cannot honour KMSKeyArn: it does not use KMS, and keeps filter criteria with the mapping.",
            ));
        }
        Ok(())
    }

    fn check_batch(self, members: &Map<String, Value>) -> Result<(), Error> {
        let (most, default) = self.batch();
        let size = number(members, "BatchSize").unwrap_or_default();
        let size = u64::try_from(size).ok().filter(|size| *size > 0);
        let size = size.unwrap_or(default);
        let window = number(members, "MaximumBatchingWindowInSeconds").unwrap_or_default();
        if size > most {
            return Err(invalid(format!(
                "Batch size {size} is not supported: the most for {self} of this kind is {most}."
            )));
        }
        if self == SqsFifo && window > 0 {
            return Err(invalid("Batching window is not supported for FIFO queues."));
        }
        if self == Sqs && size > 10 && window == 0 {
            return Err(invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
            ));
        }
        Ok(())
    }

    fn check_position(self, members: &Map<String, Value>, now_ms: u64) -> Result<(), Error> {
        let at_timestamp = text(members, "StartingPosition") == Some("AT_TIMESTAMP");
        if at_timestamp && self == DynamoDb {
            let arn = text(members, "EventSourceArn").unwrap_or_default();
            return Err(invalid(format!(
                "Unsupported starting position for arn type: {arn}"
            )));
        }
        let timestamp = members.get("StartingPositionTimestamp");
        match (at_timestamp, timestamp) {
            (true, None) => Err(invalid(
                "StartingPositionTimestamp must be provided when StartingPosition is AT_TIMESTAMP.",
            )),
            (false, Some(_)) => Err(invalid(
                "StartingPositionTimestamp is only valid when StartingPosition is AT_TIMESTAMP.",
            )),
            (true, Some(timestamp)) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "milliseconds are far below 2 to the 52"
                )]
                let now = now_ms as f64 / 1000.0;
                match timestamp.as_f64().is_some_and(|seconds| seconds > now) {
                    true => Err(invalid(
                        "StartingPositionTimestamp must not be in the future.",
                    )),
                    false => Ok(()),
                }
            }
            (false, None) => Ok(()),
        }
    }

    /// Records of batches that failed go to a queue, a topic or a bucket, and those that were done nowhere.
    fn check_destinations(self, members: &Map<String, Value>) -> Result<(), Error> {
        let Some(config) = members.get("DestinationConfig") else {
            return Ok(());
        };
        if !config["OnSuccess"].is_null() {
            return Err(invalid(
                "Unsupported DestinationConfig parameter for given event source mapping type.",
            ));
        }
        let arn = config["OnFailure"]["Destination"].as_str().unwrap_or("");
        let takes_topics = matches!(self, Msk | Kafka);
        let is_known = arn.is_empty()
            || (takes_topics && arn.starts_with("kafka://"))
            || arn
                .split(':')
                .nth(2)
                .is_some_and(|service| matches!(service, "sqs" | "sns" | "s3"));
        match is_known {
            true => Ok(()),
            false => Err(invalid(format!(
                "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={arn})) is \
                 invalid."
            ))),
        }
    }

    /// Adds what Lambda says where the caller says nothing.
    pub(super) fn complete(self, members: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| {
            members.entry(name).or_insert(value);
        };
        set("BatchSize", self.batch().1.into());
        match self {
            Sqs | SqsFifo => {
                set("MaximumBatchingWindowInSeconds", 0.into());
                set("FunctionResponseTypes", json!([]));
            }
            Kinesis | DynamoDb => {
                set("MaximumBatchingWindowInSeconds", 0.into());
                set("ParallelizationFactor", 1.into());
                set("DestinationConfig", json!({"OnFailure": {}}));
                set("MaximumRecordAgeInSeconds", (-1).into());
                set("BisectBatchOnFunctionError", false.into());
                set("MaximumRetryAttempts", (-1).into());
                set("TumblingWindowInSeconds", 0.into());
                set("FunctionResponseTypes", json!([]));
            }
            Kafka => set("StartingPosition", "TRIM_HORIZON".into()),
            Msk | Mq | DocumentDb => {}
        }
    }
}

fn check_filters(members: &Map<String, Value>) -> Result<(), Error> {
    let filters = members
        .get("FilterCriteria")
        .and_then(|criteria| criteria["Filters"].as_array());
    let filters = filters.map_or(&[][..], Vec::as_slice);
    if filters.len() > MAX_FILTERS {
        return Err(invalid(format!(
            "A mapping has at most {MAX_FILTERS} filters."
        )));
    }
    let is_pattern = |filter: &Value| filter["Pattern"].as_str().is_some_and(filter::is_pattern);
    match filters.iter().all(is_pattern) {
        true => Ok(()),
        false => Err(invalid("Invalid filter pattern definition.")),
    }
}

fn check_pollers(members: &Map<String, Value>) -> Result<(), Error> {
    let pollers = |name: &str| {
        let config = members.get("ProvisionedPollerConfig")?;
        config[name].as_i64()
    };
    match (pollers("MinimumPollers"), pollers("MaximumPollers")) {
        (Some(least), Some(most)) if least > most => Err(invalid(
            "MinimumPollers must not be greater than MaximumPollers.",
        )),
        _ => Ok(()),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn number(members: &Map<String, Value>, name: &str) -> Option<i64> {
    members.get(name).and_then(Value::as_i64)
}

/// The first of a list of texts; the model lets these have one only.
fn first<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    let first = members.get(name).and_then(|list| list.get(0));
    first.and_then(Value::as_str).unwrap_or_default()
}

fn endpoints(members: &Map<String, Value>) -> Vec<&str> {
    let servers = members
        .get("SelfManagedEventSource")
        .and_then(|source| source["Endpoints"]["KAFKA_BOOTSTRAP_SERVERS"].as_array());
    let servers = servers.map_or(&[][..], Vec::as_slice);
    servers.iter().filter_map(Value::as_str).collect()
}
