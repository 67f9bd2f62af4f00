//! What can be seen and reached from inside.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use wasip2::clocks::{monotonic_clock, wall_clock};

/// Tries to read, list, and write a path.
pub(crate) fn files(path: &str) -> Value {
    let names = |path| -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    json!({
        "read": report(fs::read(path).map(|file| String::from_utf8_lossy(&file).into_owned())),
        "list": report(names(path)),
        "create": report(fs::File::create_new(format!("{path}.created")).map(|_| true)),
        "link": report(fs::hard_link(path, "/tmp/link").map(|()| true)),
    })
}

/// Writes so many bytes to a file in `/tmp`, and says how many went in.
pub(crate) fn write_tmp(bytes: u64) -> Value {
    let piece = [b'x'; 64 << 10];
    let mut written = 0;
    let mut write = || -> io::Result<()> {
        let mut file = fs::File::create("/tmp/file")?;
        while written < bytes {
            let next = piece
                .len()
                .min(usize::try_from(bytes - written).unwrap_or(usize::MAX));
            file.write_all(&piece[..next])?;
            written += next as u64;
        }
        Ok(())
    };
    let result = write();
    json!({ "written": written, "result": report(result.map(|()| true)) })
}

/// Tries every kind of socket.
pub(crate) fn sockets() -> Value {
    let connect = |address| report(TcpStream::connect(address).map(|_| true));
    let send = |address| {
        report(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", address)))
    };
    json!({
        "tcp_loopback": connect("127.0.0.1:22"),
        "tcp_public": connect("1.1.1.1:80"),
        "tcp_listen": report(TcpListener::bind("127.0.0.1:0").map(|_| true)),
        "udp_loopback": send("127.0.0.1:53"),
        "udp_public": send("1.1.1.1:53"),
        "resolve": report("localhost:80".to_socket_addrs().map(Iterator::count)),
    })
}

pub(crate) fn environment() -> Value {
    let variables: BTreeMap<String, String> = env::vars().collect();
    let arguments: Vec<String> = env::args().collect();
    json!({
        "variables": variables,
        "arguments": arguments,
        "directory": report(env::current_dir().map(|path| path.display().to_string())),
    })
}

/// Reads every clock around a sleep.
pub(crate) fn clock(sleep: u64) -> Value {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(sleep));
    let slept = start.elapsed();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let resolution = wall_clock::resolution();
    json!({
        "unix_ms": now.as_millis() as u64,
        "slept_us": slept.as_micros() as u64,
        "monotonic_ns": monotonic_clock::now(),
        "monotonic_resolution_ns": monotonic_clock::resolution(),
        "wall_resolution_ns": resolution.seconds * 1_000_000_000 + u64::from(resolution.nanoseconds),
    })
}

pub(crate) fn context() -> Value {
    let context = wharf_sdk::context::current();
    json!({
        "request_id": context.request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "invoked_function_arn": context.invoked_function_arn,
        "memory_limit_mb": context.memory_limit_mb,
        "deadline_ms": context.deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        "traceparent": context.traceparent,
        "client_context": context.client_context,
        "remaining_time_ms": wharf_sdk::context::remaining_time().as_millis() as u64,
        "remaining_fuel": wharf_sdk::context::remaining_fuel(),
    })
}

pub(crate) fn config() -> Value {
    match wharf_sdk::config::get_all() {
        Ok(values) => json!({ "values": values }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// `{"ok": …}` or `{"error": …}`.
fn report<T: serde::Serialize>(result: io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": format!("{:?}: {error}", error.kind()) }),
    }
}
