//! Computes fib(27) for each request: a CPU-bound, call-heavy guest.
//!
//! About 830,000 calls with two instructions of work each: what a host adds to a call (fuel, epochs) shows most here.

use std::hint::black_box;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Fib;

wasip2::http::proxy::export!(Fib);

impl Guest for Fib {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let text = format!("{}\n", fib(black_box(27)));
        let headers = Fields::from_list(&[
            ("content-type".into(), b"text/plain".to_vec()),
            ("content-length".into(), text.len().to_string().into_bytes()),
        ])
        .expect("both headers are well formed");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));

        let stream = body.write().expect("the stream is taken once");
        // The client may have gone away by now; the host sees that for itself.
        let _ = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

fn fib(n: u32) -> u32 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}
