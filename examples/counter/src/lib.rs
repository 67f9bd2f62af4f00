//! A counter for each path, kept in a key-value bucket.

use wharf_sdk::{
    http::{Body, Error, Method, Request, Response},
    key_value::Bucket,
};

#[wharf_sdk::http]
async fn counter(request: Request<Body>) -> Result<Response<Body>, Error> {
    let bucket = Bucket::open("default")?;
    let key = request.uri().path();
    let count = match *request.method() {
        Method::GET | Method::HEAD => match bucket.get(key)? {
            // A number that is incremented is kept as decimal text.
            Some(count) => String::from_utf8(count)?.parse()?,
            None => 0,
        },
        // One step in the store: however many instances count at once, none is lost.
        Method::POST => bucket.increment(key, 1)?,
        Method::DELETE => {
            bucket.delete(key)?;
            0
        }
        _ => {
            return Ok(Response::builder()
                .status(405)
                .header("allow", "GET, HEAD, POST, DELETE")
                .body(Body::empty())?);
        }
    };
    Ok(Response::new(format!("{count}\n").into()))
}
