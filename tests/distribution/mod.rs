//! Distributions as sites have them: the real program, deployed to with a manifest, between real servers and clients.
//!
//! | module | what is held to its promises |
//! | --- | --- |
//! | `nginx` | answers of nginx, got with curl and h2load |
//! | `origins` | what servers do on purpose |
//! | `requests` | what clients send on purpose: two meanings, too much, too slow |
//! | `poisoning` | what one client leaves in the cache for the next |
//! | `storing` | purges under load, restarts, and a node that is killed while it stores |
//!
//! Each rule of the cache has its test in `src/edge/cache/tests`, on a clock that the test moves. `site`, `curl`, `server` and
//! `wire` are what the tests are made of.

mod curl;
mod nginx;
mod origins;
mod poisoning;
mod requests;
mod server;
mod site;
mod storing;
mod wire;
