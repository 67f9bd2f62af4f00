//! Fetches several URLs at the same time and tells how each went.

use std::time::Instant;

use futures_util::future::join_all;
use serde::Serialize;
use wharf_sdk::http::{Body, BodyExt as _, Client, Error, Request, Response};

/// The most URLs of one request: a node lets a function have ten outbound requests at one moment unless told otherwise.
const MAX_URLS: usize = 10;

/// How one fetch went: a status and a length, or an error.
#[derive(Serialize)]
struct Fetched {
    url: String,
    #[serde(flatten)]
    outcome: Outcome,
    milliseconds: u128,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Answer { status: u16, bytes: u64 },
    Failure { error: String },
}

#[wharf_sdk::http]
async fn fanout(request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or_default();
    let urls: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "url")
        .map(|(_, url)| url.into_owned())
        .collect();
    if urls.is_empty() || urls.len() > MAX_URLS {
        return Ok(Response::builder()
            .status(400)
            .body(format!("give 1 to {MAX_URLS} URLs as ?url=\n").into())?);
    }

    let client = Client::new();
    let fetched = join_all(urls.into_iter().map(|url| timed(&client, url))).await;
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(Body::from_json(&fetched)?)?)
}

async fn timed(client: &Client, url: String) -> Fetched {
    let start = Instant::now();
    let outcome = match fetch(client, &url).await {
        Ok((status, bytes)) => Outcome::Answer { status, bytes },
        // A URL that fails is news about that URL, not a failure of this function.
        Err(error) => Outcome::Failure {
            error: format!("{error:#}"),
        },
    };
    Fetched {
        url,
        outcome,
        milliseconds: start.elapsed().as_millis(),
    }
}

/// The status and the length of the body, which is counted as it streams by.
async fn fetch(client: &Client, url: &str) -> Result<(u16, u64), Error> {
    let request = Request::get(url).body(Body::empty())?;
    let response = client.send(request).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body().into_boxed_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            bytes += data.len() as u64;
        }
    }
    Ok((status, bytes))
}
