//! Who may call, and for what: IAM and STS with AWS's own clients, and what their policies do to calls of Lambda.

mod refusals;
mod roles;
mod sessions;
mod users;

use std::{fs, os::unix::fs::OpenOptionsExt as _, process::Stdio, time::Duration};

use crate::support::{self, Node, Reply, aws, guests};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use wharf::{control::CREDENTIALS_FILE, model::FunctionConfiguration};

const ACCOUNT: &str = "000000000000";

async fn node_with_probe() -> Node {
    let node = Node::start().await;
    probe(&node).await;
    node
}

async fn probe(node: &Node) {
    node.function(
        "probe",
        guests::EVENT_PROBE,
        FunctionConfiguration::default(),
    )
    .await;
}

fn iam(operation: &str, parameters: Value) -> Value {
    json!({"service": "iam", "operation": operation, "parameters": parameters})
}

fn sts(operation: &str, parameters: Value) -> Value {
    json!({"service": "sts", "operation": operation, "parameters": parameters})
}

fn lambda(operation: &str, parameters: Value) -> Value {
    json!({"operation": operation, "parameters": parameters})
}

fn invoke() -> Value {
    lambda("invoke", json!({"FunctionName": "probe", "Payload": "{}"}))
}

/// The same call with the access key that the answer to call `number` has.
fn with_key(mut call: Value, number: usize) -> Value {
    call["client"] = json!({
        "aws_access_key_id": {"$answer": [number, "AccessKey", "AccessKeyId"]},
        "aws_secret_access_key": {"$answer": [number, "AccessKey", "SecretAccessKey"]},
    });
    call
}

/// The same call with the temporary credentials that the answer to call `number` has.
fn in_session(mut call: Value, number: usize) -> Value {
    call["client"] = json!({
        "aws_access_key_id": {"$answer": [number, "Credentials", "AccessKeyId"]},
        "aws_secret_access_key": {"$answer": [number, "Credentials", "SecretAccessKey"]},
        "aws_session_token": {"$answer": [number, "Credentials", "SessionToken"]},
    });
    call
}

fn policy(statement: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statement}).to_string()
}

fn allow(action: &str, resource: &str) -> String {
    policy(json!({"Effect": "Allow", "Action": action, "Resource": resource}))
}

fn trust(principal: Value) -> String {
    policy(json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}))
}

fn lambda_trust() -> String {
    trust(json!({"Service": "lambda.amazonaws.com"}))
}

/// The codes of errors, empty where there is none.
fn codes(answers: &[Value]) -> Vec<&str> {
    answers
        .iter()
        .map(|answer| answer["code"].as_str().unwrap_or_default())
        .collect()
}
