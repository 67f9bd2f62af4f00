//! Never answers: an endless loop, which only the host's limits end.

use std::hint::black_box;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Spin;

wasip2::http::proxy::export!(Spin);

impl Guest for Spin {
    fn handle(_: IncomingRequest, _: ResponseOutparam) {
        let mut n: u64 = 0;
        loop {
            n = black_box(n.wrapping_add(1));
        }
    }
}
