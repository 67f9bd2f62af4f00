//! A native neighbour: keeps N threads busy until it is killed.
//!
//!     burn N

use std::hint::black_box;
use std::thread;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let threads: usize = std::env::args()
        .nth(1)
        .context("usage: burn THREADS")?
        .parse()
        .context("parse the number of threads")?;
    let burning: Vec<_> = (0..threads).map(|_| thread::spawn(burn)).collect();
    for thread in burning {
        let _ = thread.join();
    }
    Ok(())
}

fn burn() {
    let mut n: u64 = 0;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}
