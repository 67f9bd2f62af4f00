//! An HTTP function whose path chooses a misbehaviour, or something about its surroundings to report.
//!
//! `README.md` beside this workspace says what the host makes of each. What is refused is reported in a JSON answer, so that a
//! test reads it; what the host ends has no answer. A client that goes away is no reason to trap: writes then end quietly.

mod answer;
mod outbound;
mod request;
mod resources;
mod surroundings;

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use answer::Answer;
use request::Request;
use serde_json::json;
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{IncomingRequest, ResponseOutparam},
};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl Guest for Hostile {
    fn handle(request: IncomingRequest, response: ResponseOutparam) {
        let request = Request::new(request);
        let answer = Answer::new(response);
        match request.path() {
            "/" => answer.text("hello\n"),
            "/state" => answer.json(json!({ "requests": count_requests() })),
            "/status" => answer.status(request.number("code", 200)),

            // Processor time.
            "/loop" => endless_loop(),
            "/host-calls" => loop {
                black_box(monotonic_clock::now());
            },
            "/heavy-host-calls" => loop {
                black_box(resources::random(request.number("bytes", 1 << 20)));
            },
            "/burn" => {
                burn(Duration::from_millis(request.number("ms", 100)));
                answer.text("burnt\n");
            }

            // Ends of the instance.
            "/trap" => core::arch::wasm32::unreachable(),
            "/panic" => panic!("this function panics on purpose"),
            "/exit" => std::process::exit(3),
            "/recursion" => {
                let depth = deep(request.number("depth", 100_000_000));
                answer.json(json!({ "value": depth }));
            }

            // Memory of the instance and of the host.
            "/memory" => resources::memory_bomb(),
            "/memory-refused" => answer.json(resources::memory_until_refused()),
            "/handles" => resources::pollable_bomb(),
            "/fields" => resources::fields_bomb(),
            "/random" => answer.json(resources::random(request.number("bytes", 1 << 34))),
            "/kv-flood" => answer.json(resources::key_value_flood(&request)),
            "/log-flood" => {
                resources::log_flood(request.number("bytes", 4 << 20));
                answer.text("logged\n");
            }

            // Answers that do not come, do not end, or lie.
            "/never" => never(),
            "/no-answer" => drop(answer),
            "/error" => answer.error("on purpose"),
            "/sleep" => {
                std::thread::sleep(Duration::from_millis(request.number("ms", 100)));
                answer.text("slept\n");
            }
            "/hang-after" => {
                let _body = answer.begin(&[]).write(b"partial\n");
                never();
            }
            "/loop-after" => {
                answer.text("hello\n");
                endless_loop();
            }
            "/trap-after" => {
                let _body = answer.begin(&[]).write(b"partial\n");
                core::arch::wasm32::unreachable();
            }
            "/unfinished" => drop(answer.begin(&[]).write(b"partial\n")),
            "/too-short" => answer
                .begin(&[("content-length", "100")])
                .write(b"short\n")
                .finish(),
            "/too-long" => answer
                .begin(&[("content-length", "1")])
                .write(b"too long\n")
                .finish(),
            "/slow-body" => {
                let mut body = answer.begin(&[]);
                for _ in 0..request.number("bytes", 50) {
                    body = body.write(b".");
                    std::thread::sleep(Duration::from_millis(request.number("ms", 100)));
                }
                body.finish();
            }
            "/body" => {
                let mut body = answer.begin(&[]);
                let mut left: u64 = request.number("bytes", 1 << 20);
                while left > 0 && body.is_open() {
                    let piece = left.min(64 << 10);
                    body = body.write(&vec![b'x'; piece as usize]);
                    left -= piece;
                }
                body.finish();
            }
            "/endless" => {
                let mut body = answer.begin(&[]);
                while body.is_open() {
                    body = body.write(&[b'x'; 64 << 10]);
                }
            }
            "/huge-headers" => answer.huge_headers(request.number("value", 4096)),
            "/split" => answer.split_headers(),
            "/trailers" => answer
                .begin(&[("trailer", "x-count")])
                .write(b"hello\n")
                .finish_with(&[("x-count", "6")]),
            "/echo" => answer.echo(request),
            "/read-body" => answer.json(json!({ "bytes": request.read_body() })),

            // What may be reached.
            "/fetch" => answer.json(outbound::fetch(request.text("url"))),
            "/outbound-flood" => {
                answer.json(outbound::flood(
                    request.text("url"),
                    request.number("count", 300),
                ));
            }
            "/files" => answer.json(surroundings::files(request.text("path"))),
            "/tmp-write" => answer.json(surroundings::write_tmp(request.number("bytes", 1 << 20))),
            "/sockets" => answer.json(surroundings::sockets()),
            "/environment" => answer.json(surroundings::environment()),
            "/clock" => answer.json(surroundings::clock(request.number("ms", 10))),
            "/context" => answer.json(surroundings::context()),
            "/config" => answer.json(surroundings::config()),
            _ => answer.status(404),
        }
    }
}

/// How many requests this instance has served: 1 for ever where isolation is `fresh`.
fn count_requests() -> u64 {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    REQUESTS.fetch_add(1, Ordering::Relaxed) + 1
}

fn endless_loop() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Waits for what does not come.
fn never() -> ! {
    loop {
        monotonic_clock::subscribe_duration(u64::MAX).block();
    }
}

fn burn(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box((0..10_000).fold(0_u64, |sum, number| black_box(sum ^ number)));
    }
}

/// Frames without memory of their own: it is the engine's stack that ends, not the guest's.
fn deep(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    deep(depth - 1).rotate_left(7).wrapping_mul(31) ^ depth
}
