//! What functions say is found with AWS's own clients, as in CloudWatch Logs.

mod errors;
mod following;
mod groups;
mod reading;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Node, aws, guests};
use serde_json::{Value, json};
use wharf::model::FunctionConfiguration;

/// The default group of the function `probe`.
const GROUP: &str = "/aws/lambda/probe";

const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:";

async fn node_with_probe() -> Node {
    let node = Node::start().await;
    let configuration = FunctionConfiguration::default();
    node.function("probe", guests::EVENT_PROBE, configuration)
        .await;
    node
}

/// Calls of CloudWatch Logs.
async fn logs(node: &Node, calls: Vec<Value>) -> Vec<Value> {
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|mut call| {
            if call.get("service").is_none() {
                call["service"] = "logs".into();
            }
            call
        })
        .collect();
    aws::call(node, calls.into()).await
}

fn op(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn paged(operation: &str, parameters: Value, page: u32) -> Value {
    json!({"operation": operation, "parameters": parameters, "paginate": {"PageSize": page}})
}

fn invoke(event: Value) -> Value {
    let parameters = json!({"FunctionName": "probe", "Payload": event.to_string()});
    json!({"service": "lambda", "operation": "invoke", "parameters": parameters})
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn list<'a>(answer: &'a Value, member: &str, part: &str) -> Vec<&'a Value> {
    let items = answer[member].as_array();
    let items = items.unwrap_or_else(|| panic!("no {member} in {answer}"));
    items.iter().map(|item| &item[part]).collect()
}

fn messages(answer: &Value) -> Vec<&str> {
    let messages = list(answer, "events", "message");
    messages
        .into_iter()
        .map(|message| message.as_str().unwrap())
        .collect()
}
