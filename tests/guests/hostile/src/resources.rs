//! Piling up what the instance, or the host on its behalf, has only so much of.

use std::io::Write as _;

use serde_json::{Value, json};
use wasip2::{clocks::monotonic_clock, http::types::Fields, random::random};
use wharf_sdk::key_value::{self, Bucket};

use crate::request::Request;

const MEGABYTE: usize = 1 << 20;

/// Allocates and touches memory until the allocator gives up, which traps: what a leak does.
pub(crate) fn memory_bomb() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; MEGABYTE]);
    }
}

/// Grows memory until that is refused, and lives on to tell.
pub(crate) fn memory_until_refused() -> Value {
    const PAGES: usize = 16;
    let mut grown = 0;
    while core::arch::wasm32::memory_grow::<0>(PAGES) != usize::MAX {
        grown += PAGES;
    }
    json!({ "grown_pages": grown, "pages": core::arch::wasm32::memory_size::<0>() })
}

/// Makes handles until the host ends it.
pub(crate) fn pollable_bomb() -> ! {
    loop {
        std::mem::forget(monotonic_clock::subscribe_duration(u64::MAX));
    }
}

/// Makes large header maps, which the host holds, until the host ends it.
pub(crate) fn fields_bomb() -> ! {
    let value = vec![b'x'; 32 << 10];
    loop {
        let fields = Fields::new();
        let _ = fields.append("x-bomb", &value);
        std::mem::forget(fields);
    }
}

/// Asks for more random bytes than a host should make at once.
pub(crate) fn random(bytes: u64) -> Value {
    json!({ "bytes": random::get_random_bytes(bytes).len() })
}

/// Writes values until one is refused.
pub(crate) fn key_value_flood(request: &Request) -> Value {
    let bytes = usize::try_from(request.number("bytes", MEGABYTE as u64)).unwrap_or(MEGABYTE);
    let bucket = match request.text("bucket") {
        "" => "default",
        bucket => bucket,
    };
    let written = || -> Result<u64, (u64, key_value::Error)> {
        let bucket = Bucket::open(bucket).map_err(|error| (0, error))?;
        let value = vec![b'x'; bytes];
        let most = request.number("most", 100_000);
        for number in 0..most {
            bucket
                .set(&format!("flood-{number}"), &value)
                .map_err(|error| (number, error))?;
        }
        Ok(most)
    };
    match written() {
        Ok(values) => json!({ "values": values, "bytes": bytes }),
        Err((values, error)) => {
            json!({ "values": values, "bytes": bytes, "refused": error.to_string() })
        }
    }
}

/// Writes so many bytes to standard output and to standard error, in lines.
pub(crate) fn log_flood(bytes: u64) {
    let line = [[b'x'; 127].as_slice(), b"\n"].concat();
    for _ in 0..bytes / line.len() as u64 {
        // The host may close the log; that is no reason to stop.
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stderr().write_all(&line);
    }
}
