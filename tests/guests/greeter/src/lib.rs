//! A component for a layer. It exports `acme:greet/hello`, which greet-probe imports, and is no function by itself.

use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({
    inline: "
        package acme:greet@1.0.0;
        interface hello {
            greet: func(name: string) -> string;
        }
        world greeter {
            export hello;
        }
    ",
});

use exports::acme::greet::hello::Guest;

struct Greeter;

export!(Greeter);

impl Guest for Greeter {
    fn greet(name: String) -> String {
        static GREETED: AtomicU32 = AtomicU32::new(0);
        // What it says of its own: that it has memory, time and files as the function has.
        let count = GREETED.fetch_add(1, Ordering::Relaxed) + 1;
        let word = std::fs::read_to_string("/opt/word").unwrap_or_else(|_| "Hello".to_owned());
        format!("{}, {name}! ({count})", word.trim())
    }
}
