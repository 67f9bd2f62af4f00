//! What a deployment and a page of the list cost where there are many functions. A measurement, which prints and is run
//! by hand:
//!
//! ```console
//! $ cargo test --release --test integration scale:: -- --ignored --nocapture
//! ```

use std::time::{Duration, Instant};

use crate::support::{Node, Reply, guests};
use reqwest::Method;
use wharf::{
    control::api::{Deploy, DeployFunction},
    model::{Digest, FunctionConfiguration},
};

const FEW: usize = 10;
const MANY: usize = 10_000;

/// How often each is measured.
const TIMES: usize = 50;

fn function(name: String, code: Digest, turn: usize) -> DeployFunction {
    DeployFunction {
        name: name.parse().unwrap(),
        code,
        configuration: FunctionConfiguration {
            environment: [("TURN".to_owned(), turn.to_string())].into(),
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The medians of a deployment of code that is there, and of a page of the list.
async fn measure(node: &Node, code: Digest) -> (Duration, Duration) {
    let (mut deployments, mut pages) = (Vec::new(), Vec::new());
    for turn in 0..TIMES {
        let one = deploy(vec![function("function-7".to_owned(), code, turn)]);
        let started = Instant::now();
        node.client.deploy(&one).await.unwrap();
        deployments.push(started.elapsed());
        let page = node.authorized(Method::GET, "/2015-03-31/functions?MaxItems=50");
        let started = Instant::now();
        let page = Reply::of(page).await;
        pages.push(started.elapsed());
        let listed = page.json()["Functions"].as_array().unwrap().len();
        assert!(listed >= FEW, "{page:?}");
    }
    (median(deployments), median(pages))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_deployment_costs_little_however_many_functions_there_are() {
    let node = Node::start().await;
    let code = node.client.upload(guests::HOSTILE.bytes()).await.unwrap();
    let mut results = Vec::new();
    let mut there = 0;
    for wanted in [FEW, MANY] {
        let started = Instant::now();
        let numbers: Vec<usize> = (there..wanted).collect();
        for batch in numbers.chunks(500) {
            let functions = batch
                .iter()
                .map(|number| function(format!("function-{number}"), code, 0))
                .collect();
            node.client.deploy(&deploy(functions)).await.unwrap();
        }
        there = wanted;
        println!("{wanted} functions, after {:?}", started.elapsed());
        let (deployment, page) = measure(&node, code).await;
        println!("  a deployment of unchanged code {deployment:?}, a page of the list {page:?}");
        results.push((deployment, page));
    }
    let ratio = |many: Duration, few: Duration| many.as_secs_f64() / few.as_secs_f64();
    println!(
        "with {MANY} functions for {FEW}: a deployment {:.1}, a page {:.1} times",
        ratio(results[1].0, results[0].0),
        ratio(results[1].1, results[0].1),
    );
    let data = node.stop().await;
    let started = Instant::now();
    let _node = Node::start_in(data, |_| {}).await;
    println!("a start with {MANY} functions {:?}", started.elapsed());
}
