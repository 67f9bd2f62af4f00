//! WASI 0.2 and 0.3, as wasmtime-wasi implements them, with our file system.
//!
//! A guest built for 0.3 still imports 0.2 interfaces, so who links 0.3 links both. Sockets are linked,
//! because Rust's standard library imports them whether they are used or not, and refused: a `WasiCtx` allows no address
//! unless told otherwise.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    p2, p3,
    random::{WasiRandom, WasiRandomView as _},
    sockets::{WasiSockets, WasiSocketsView as _},
};

use super::filesystem::{self, FilesystemHost};

/// Links `wasi:cli`, `clocks`, `random`, `filesystem` and `sockets` 0.3.
pub(crate) fn add_p3_to_linker<T>(linker: &mut Linker<T>) -> wasmtime::Result<()>
where
    T: WasiView + FilesystemHost + 'static,
{
    p3::cli::add_to_linker(linker)?;
    p3::clocks::add_to_linker(linker)?;
    p3::random::add_to_linker(linker)?;
    p3::sockets::add_to_linker(linker)?;
    filesystem::add_p3_to_linker(linker)
}

/// Links what `wasmtime_wasi::p2::add_to_linker_async` does, with our `wasi:filesystem`.
pub(crate) fn add_p2_to_linker<T>(linker: &mut Linker<T>) -> wasmtime::Result<()>
where
    T: WasiView + FilesystemHost + 'static,
{
    use p2::bindings::{cli, clocks, random, sockets};
    use wasmtime_wasi_io::bindings::wasi::io;

    let l = linker;
    // Not `ctx()`, which makes the context: a function that does nothing but HTTP has no use for one.
    io::error::add_to_linker::<T, Table>(l, |host| host.filesystem_view().table)?;
    io::poll::add_to_linker::<T, Table>(l, |host| host.filesystem_view().table)?;
    io::streams::add_to_linker::<T, Table>(l, |host| host.filesystem_view().table)?;
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(l, T::random)?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, T::random)?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, T::random)?;
    cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::network::add_to_linker::<T, WasiSockets>(
        l,
        &sockets::network::LinkOptions::default(),
        T::sockets,
    )?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    filesystem::add_p2_to_linker(l)
}

/// `wasi:io` needs the resources and nothing else.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}
