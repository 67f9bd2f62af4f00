use std::{fs, path::Path, time::Duration};

use serde_json::json;

use super::*;
use crate::model::{
    ByteSize, Isolation, OutboundGrant, Pool,
    distribution::{Behaviour, Origin, Target},
};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Path::new("wharf.toml"), Path::new("/app"))
}

/// Holds what each manifest of a folder comes to against its snapshot.
fn for_each_manifest(folder: &str, outcome: impl Fn(&str) -> String) {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("{folder}/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in paths {
            let outcome = outcome(&fs::read_to_string(&path).unwrap());
            let name = path.file_stem().unwrap().to_string_lossy();
            insta::assert_snapshot!(&*name, outcome);
        }
    });
}

#[test]
fn every_bad_manifest_says_where_and_what_to_do() {
    for_each_manifest(MANIFESTS, |text| {
        parse(text).expect_err("it is bad").to_string()
    });
}

#[test]
fn the_files_of_a_certificate_are_taken_from_the_manifests_folder() {
    let text = fs::read_to_string(format!("{MANIFESTS}/good/everything.toml")).unwrap();
    let certificates = parse(&text).unwrap().certificates;
    let files = CertificateFiles {
        chain: "/app/tls/site.pem".into(),
        key: "/app/tls/site.key".into(),
    };
    assert_eq!(certificates, [("site".parse().unwrap(), files)].into());
}

#[test]
fn every_key_of_a_distribution_reaches_it_and_the_catalog() {
    for_each_manifest(&format!("{MANIFESTS}/good"), |text| {
        let distributions = parse(text).unwrap().distributions;
        let written = serde_json::to_string_pretty(&distributions).unwrap();
        let read: BTreeMap<DistributionName, Distribution> =
            serde_json::from_str(&written).unwrap();
        assert_eq!(read, distributions);
        written
    });
}

#[test]
fn what_a_distribution_does_not_say_is_as_the_model_has_it() {
    let least = fs::read_to_string(format!("{MANIFESTS}/good/least.toml")).unwrap();
    let site = parse(&least).unwrap().distributions.remove("site").unwrap();
    let origin = json!({"servers": [{"url": "https://origin.example.com"}]});
    let origin: Origin = serde_json::from_value(origin).unwrap();
    assert_eq!(site.origins["main"], origin);
    assert_eq!(
        site.default,
        Behaviour::new(Target::Origin("main".to_owned()))
    );
}

#[test]
fn every_example_of_the_guide_is_a_manifest() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifest.md");
    let guide = fs::read_to_string(guide).unwrap();
    let examples: Vec<&str> = guide
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 2);
    for example in examples {
        // A part of a manifest names functions that stand elsewhere in it.
        let text = match example.contains("\nname = ") {
            true => example.to_owned(),
            false => format!("name = 'a'\n[functions.api]\n[functions.auth]\n{example}"),
        };
        if let Err(error) = parse(&text) {
            panic!("{error}");
        }
    }
}

#[test]
fn every_key_reaches_the_configuration() {
    let manifest = parse(
        r#"
        name = "shop"

        [functions.cart]
        description = "Keeps what is bought."
        source = "cart"
        build = "make cart.wasm"
        component = "cart/cart.wasm"
        memory = "64 MB"
        timeout = "10 s"
        fuel = 1_000_000
        cpu = "500 ms"
        environment = { MODE = "fast" }
        secrets = { API_KEY = { env = "SHOP_KEY" }, CERT = { file = "secrets/cert" } }
        config = { greeting = "hi" }
        isolation = { requests = 1000, age = "10 min" }
        pool = { min = 2 }
        concurrency = 7
        outbound = ["API.internal:8080", "[fd00::1]:443"]
        key_value = { default = "carts" }
        files = [{ source = "../static", mount = "/static" }]
        tmp = "1 MB"
        response = "1 MB"
        outbound_requests = 3
        outbound_concurrency = 2
        log = "1 KB"
        receipt = true
        "#,
    )
    .unwrap();
    assert_eq!(manifest.name.as_str(), "shop");
    let cart = &manifest.functions["cart"];
    assert_eq!(
        cart.code,
        Code::Source {
            folder: "/app/cart".into(),
            command: Some("make cart.wasm".to_owned()),
            component: Some("/app/cart/cart.wasm".into()),
        }
    );
    assert_eq!(
        cart.secrets["API_KEY"],
        SecretSource::Env("SHOP_KEY".to_owned())
    );
    assert_eq!(
        cart.secrets["CERT"],
        SecretSource::File("/app/secrets/cert".into())
    );
    let grant = |host: &str, port| OutboundGrant {
        host: host.to_owned(),
        port,
    };
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(
        cart.configuration,
        FunctionConfiguration {
            description: "Keeps what is bought.".to_owned(),
            memory: Some(ByteSize::mb(64)),
            timeout: Some(Duration::from_secs(10)),
            fuel: Some(1_000_000),
            cpu: Some(Duration::from_millis(500)),
            environment: map("MODE", "fast"),
            secrets: BTreeMap::new(),
            config: map("greeting", "hi"),
            isolation: Isolation::Reuse {
                requests: 1000,
                age: Duration::from_secs(600)
            },
            pool: Pool { min: 2 },
            concurrency: Some(7),
            outbound: vec![grant("api.internal", 8080), grant("[fd00::1]", 443)],
            key_value: map("default", "carts"),
            files: vec![FileGrant {
                source: "/app/../static".into(),
                mount: "/static".to_owned(),
                writable: false,
            }],
            tmp: "1 MB".parse().unwrap(),
            response: "1 MB".parse().unwrap(),
            outbound_requests: 3,
            outbound_concurrency: 2,
            log: "1 KB".parse().unwrap(),
            receipt: true,
        }
    );
}

#[test]
fn what_is_not_written_has_its_default() {
    let manifest =
        parse("name = 'a'\n[functions.hello]\n[functions.made]\ncomponent = 'x.wasm'").unwrap();
    let hello = &manifest.functions["hello"];
    assert_eq!(hello.configuration, FunctionConfiguration::default());
    assert_eq!(
        hello.code,
        Code::Source {
            folder: "/app".into(),
            command: None,
            component: None
        }
    );
    assert_eq!(
        manifest.functions["made"].code,
        Code::Component("/app/x.wasm".into())
    );
    let short =
        parse("name = 'a'\n[functions.f]\nisolation = 'reuse'\nkey_value = ['default']\n").unwrap();
    let configuration = &short.functions["f"].configuration;
    assert_eq!(configuration.isolation, Isolation::REUSE);
    assert_eq!(configuration.key_value["default"], "default");
}

#[test]
fn routes_are_read_with_their_answers() {
    let manifest = parse(
        r#"
        name = "site"
        [functions.api]

        [[routes]]
        host = "*.Example.com"
        path = "/users/{id}"
        methods = ["GET", "POST"]
        function = "api"

        [[routes]]
        path = "/robots.txt"
        response = { body = "User-agent: *" }

        [[routes]]
        path = "/old/{*rest}"
        redirect = { to = "https://new.example/{rest}", status = 308 }
        "#,
    )
    .unwrap();
    let written: Vec<String> = manifest
        .routes
        .iter()
        .map(|route| serde_json::to_string(route).unwrap())
        .collect();
    assert_eq!(
        written,
        [
            r#"{"host":"*.example.com","path":"/users/{id}","methods":["GET","POST"],"answer":{"function":"api"}}"#,
            r#"{"path":"/robots.txt","answer":{"respond":{"status":200,"headers":[["content-type","text/plain; charset=utf-8"]],"body":"User-agent: *"}}}"#,
            r#"{"path":"/old/{*rest}","answer":{"redirect":{"to":"https://new.example/{rest}","status":308}}}"#,
        ]
    );
}

#[test]
fn a_thousand_routes_are_checked_and_the_first_problems_shown() {
    let mut text = "name = 'a'\n".to_owned();
    for index in 0..1000 {
        text.push_str(&format!("[[routes]]\npath = '/{index}'\nfunction = 'f'\n"));
    }
    assert_eq!(parse(&text).unwrap_err().problems.len(), 20);
}
