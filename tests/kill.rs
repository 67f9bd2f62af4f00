//! A node that is killed again and again, at any moment, while clients change whatever it keeps.
//!
//! What was acknowledged is there after each restart. What was not, because the node died first, is there whole or not at
//! all.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use crate::process::{self, Node, guest};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::json;
use wharf::{
    control::{
        api::{Deploy, DeployFunction},
        client::Client,
    },
    model::{Digest, FunctionConfiguration},
};

/// How long it goes on. At least so many rounds are made, however slow the machine is.
const LONG: Duration = Duration::from_secs(25);
const ROUNDS: usize = 5;

/// What somebody is told about a thing, and what he last asked for without being told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Told<T> {
    acknowledged: T,
    asked: Option<T>,
}

impl<T: Copy + PartialEq + std::fmt::Debug> Told<T> {
    fn ask(&mut self, value: T) {
        self.asked = Some(value);
    }

    fn hear(&mut self) {
        if let Some(value) = self.asked.take() {
            self.acknowledged = value;
        }
    }

    /// Holds what is there against what was told. From then on that is what is known.
    #[track_caller]
    fn check(&mut self, what: &str, found: T) {
        assert!(
            found == self.acknowledged || Some(found) == self.asked,
            "{what} is {found:?}, not as {self:?}"
        );
        *self = Self {
            acknowledged: found,
            asked: None,
        };
    }
}

/// All that was told.
#[derive(Debug, Default)]
struct World {
    /// Functions of their own: the round that deployed them, or none.
    single: BTreeMap<String, Told<Option<u64>>>,
    /// Two functions and a route that are deployed together: of which round.
    pair: Told<u64>,
    /// A number that a function counts up: at least, and at most.
    counted: (u64, u64),
    /// Events that were taken over.
    events: Vec<String>,
}

fn function(name: &str, code: Digest, round: u64) -> DeployFunction {
    DeployFunction {
        name: name.parse().unwrap(),
        code,
        configuration: FunctionConfiguration {
            config: [("round".to_owned(), round.to_string())].into(),
            environment: [("ROUND".to_owned(), round.to_string())].into(),
            key_value: [("default".to_owned(), "default".to_owned())].into(),
            timeout: Some(process::PATIENCE),
            ..FunctionConfiguration::default()
        },
    }
}

fn deploy(functions: Vec<DeployFunction>) -> Deploy {
    Deploy {
        app: None,
        functions,
        routes: Vec::new(),
        distributions: Vec::new(),
    }
}

/// Deploys, deploys again and removes functions of their own.
async fn change_singles(
    client: &Client,
    code: Digest,
    singles: &mut BTreeMap<String, Told<Option<u64>>>,
    rounds: &mut u64,
) {
    for turn in 0.. {
        let name = format!("single-{}", turn % 4);
        let told = singles.entry(name.clone()).or_default();
        *rounds += 1;
        let answer = if told.acknowledged.is_some() && rounds.is_multiple_of(3) {
            told.ask(None);
            client.remove(&name).await
        } else {
            told.ask(Some(*rounds));
            let deploy = deploy(vec![function(&name, code, *rounds)]);
            client.deploy(&deploy).await.map(|_| ())
        };
        if answer.is_err() {
            return;
        }
        told.hear();
    }
}

/// Deploys an app of two functions and a route.
async fn change_pair(client: &Client, code: Digest, pair: &mut Told<u64>) {
    loop {
        let round = pair.acknowledged + 1;
        pair.ask(round);
        let deploy = Deploy {
            app: Some("pair".to_owned()),
            functions: ["left", "right"]
                .map(|name| function(name, code, round))
                .into(),
            routes: serde_json::from_value(json!([
                {"host": null, "path": "/pair", "methods": [], "answer": {"function": "left"}}
            ]))
            .unwrap(),
            distributions: Vec::new(),
        };
        if client.deploy(&deploy).await.is_err() {
            return;
        }
        pair.hear();
    }
}

fn count(key: &str) -> Bytes {
    json!({"do": "count", "key": key}).to_string().into()
}

/// Has a function count in its key-value store.
async fn change_count(client: &Client, (least, most): &mut (u64, u64)) {
    loop {
        *most += 1;
        let invoked = client.invoke("counter", count("sync"), "RequestResponse", false);
        match invoked.await {
            Ok(invoked) if invoked.function_error.is_none() => *least += 1,
            Ok(invoked) => panic!("{:?}", invoked.payload),
            Err(_) => return,
        }
    }
}

/// Publishes events that a function counts, each under a key of its own.
async fn publish(client: &Client, events: &mut Vec<String>, number: &mut u64) {
    loop {
        *number += 1;
        let key = format!("event-{number}");
        let taken = client.invoke("counter", count(&key), "Event", false);
        if taken.await.is_err() {
            return;
        }
        events.push(key);
    }
}

async fn value(client: &Client, key: &str) -> u64 {
    let look = json!({"do": "count", "key": key, "by": 0}).to_string();
    let invoked = client.invoke("counter", look.into(), "RequestResponse", false);
    let payload = invoked.await.unwrap().payload;
    serde_json::from_slice(&payload).unwrap_or_else(|error| panic!("{error}: {payload:?}"))
}

/// Of which round each function is.
async fn deployed(client: &Client) -> BTreeMap<String, u64> {
    let functions = client.functions().await.unwrap();
    let round = |configuration: &FunctionConfiguration| configuration.config["round"].parse();
    functions
        .iter()
        .map(|function| {
            (
                function.name.to_string(),
                round(&function.configuration).unwrap(),
            )
        })
        .collect()
}

async fn start(data: &Path) -> (Node, Client) {
    let node = Node::serve_with(data, |wharf| {
        wharf.args(["--slots", "50", "--log", "warn"]);
    })
    .await;
    let token = Client::token(data).unwrap();
    let client = Client::new(&node.api.to_string(), token).unwrap();
    (node, client)
}

async fn check(client: &Client, world: &mut World) {
    let found = deployed(client).await;
    for (name, told) in &mut world.single {
        let round = found.get(name).copied();
        told.check(name, round);
    }
    if world.pair != Told::default() {
        let half = |name: &str| found.get(name).copied().unwrap_or(0);
        assert_eq!(half("left"), half("right"), "half an app is deployed");
        world.pair.check("the pair", half("left"));
    }
    let (least, most) = world.counted;
    let counted = value(client, "sync").await;
    assert!(
        (least..=most).contains(&counted),
        "{counted} is not from {least} to {most}"
    );
    world.counted = (counted, counted);
    // The node looks for damage in its database before it gives a copy away.
    let (_, backup) = client.backup(false, false).await.unwrap();
    let bytes: Vec<Bytes> = backup.try_collect().await.unwrap();
    wharf::store::archive::verify(&bytes.concat()[..]).unwrap();
}

/// Some milliseconds, up to 400.
fn moment() -> Duration {
    let mut random = [0; 2];
    getrandom::fill(&mut random).unwrap();
    Duration::from_millis(u64::from(u16::from_le_bytes(random)) % 400)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_moment_it_is_killed_what_was_acknowledged_is_there() {
    let data = tempfile::tempdir().unwrap();
    let component = std::fs::read(guest("event_probe")).unwrap();
    let (mut node, mut client) = start(data.path()).await;
    let code = client.upload(component.into()).await.unwrap();
    let counter = deploy(vec![function("counter", code, 0)]);
    client.deploy(&counter).await.unwrap();

    let started = Instant::now();
    let (mut world, mut rounds, mut kills, mut published) = (World::default(), 0, 0, 0);
    while started.elapsed() < LONG || kills < ROUNDS {
        let moment = moment();
        let World {
            single,
            pair,
            counted,
            events,
        } = &mut world;
        let killing = async {
            tokio::time::sleep(moment).await;
            node.kill().await;
        };
        tokio::join!(
            change_singles(&client, code, single, &mut rounds),
            change_pair(&client, code, pair),
            change_count(&client, counted),
            publish(&client, events, &mut published),
            killing
        );
        (node, client) = start(data.path()).await;
        check(&client, &mut world).await;
        kills += 1;
    }
    let waiting = Instant::now();
    for key in &world.events {
        while value(&client, key).await == 0 {
            assert!(waiting.elapsed() < process::PATIENCE, "{key} was not run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let deployments = rounds + world.pair.acknowledged;
    println!(
        "{kills} kills: {deployments} deployments and removals, {} counted, {} events",
        world.counted.0,
        world.events.len(),
    );
    assert!(deployments > 0 && world.counted.0 > 0 && !world.events.is_empty());
}
