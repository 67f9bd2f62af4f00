//! AWS Lambda's API: the operations, by what they are about.
//!
//! Each file has the operations on one thing: their members come in as the model has them ([`Call::read`]), and a JSON
//! document with the model's names goes out. What the API knows of a function beyond what is deployed is a
//! [`resource`] of the catalog. `docs/lambda-compatibility.md` lists every operation, and where it differs.
//!
//! Invoke is not here but beside it in [`control`](super): it carries payloads, not documents.

use std::sync::Arc;

use serde_json::Value;

use super::{
    auth::Subject,
    aws::{
        Answer, Call, Error, Service,
        model::{LAMBDA, Model},
    },
    verbs::Control,
};

/// Lambda's API on a node.
pub(in crate::control) struct Lambda {
    control: Arc<Control>,
}

impl Lambda {
    pub(in crate::control) fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    async fn document(&self, call: Call) -> Result<Value, Error> {
        match call.operation.name.as_str() {
            other => Err(unsupported(other)),
        }
    }
}

#[async_trait::async_trait]
impl Service for Lambda {
    fn model(&self) -> &'static Model {
        &LAMBDA
    }

    async fn subject(&self, call: &Call) -> Result<Option<Subject>, Error> {
        let Call {
            operation,
            input,
            caller,
            ..
        } = call;
        Ok(Some(Subject::of_lambda(&operation.name, input, caller)))
    }

    async fn answer(&self, call: Call) -> Result<Answer, Error> {
        self.document(call).await.map(Answer::from)
    }
}

/// Operations of the model that Wharf does not have.
fn unsupported(operation: &str) -> Error {
    Error::unsupported(operation, "it is not built yet")
}
