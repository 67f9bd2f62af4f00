//! Values as the manifest writes them: sizes and durations with their units, places with their ports.

use std::{
    borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, ops::RangeInclusive,
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::super::{ByteSize, HostPattern, Network, OutboundGrant, parse_duration};

/// A value that is written as a text, and what to write for it.
trait Written: Sized {
    /// Completes "… is not …".
    const WANTED: &'static str;
    /// The schema of the text.
    fn schema() -> Schema;
    fn read(text: &str) -> Result<Self, String>;
}

struct WrittenVisitor<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for WrittenVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::WANTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(E::custom)
    }
}

macro_rules! written {
    ($type:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(WrittenVisitor(PhantomData))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <Self as Written>::schema()
            }
        }
    };
}

written!(Size);
written!(Time);
written!(Place);
written!(Host);
written!(Statuses);
written!(NetworkText);

/// A number of bytes.
pub(super) struct Size(pub(super) ByteSize);

impl Written for Size {
    const WANTED: &'static str = "a size: write it in quotes with its unit, such as \"128 MB\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number and B, KB, MB or GB; a KB is 1,024 bytes.",
            "pattern": "^ *[0-9]+ *([KkMmGg][Ii]?[Bb]?|[Bb])? *$",
            "examples": ["128 MB"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: super::super::ParseSizeError| error.to_string())
    }
}

/// A duration.
pub(super) struct Time(pub(super) Duration);

impl Written for Time {
    const WANTED: &'static str = "a duration: write it in quotes with its unit, such as \"3 s\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A whole number and ms, s, min, h or d.",
            "pattern": "^ *[0-9]+ *(ms|s|min|h|d) *$",
            "examples": ["3 s"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// A host and a port.
///
/// Neither has wildcards: this is the list of private places that a function may reach, and one that grows by itself
/// when somebody adds a host is no list.
pub(super) struct Place(pub(super) OutboundGrant);

impl Written for Place {
    const WANTED: &'static str = "a place: write host and port, such as \"api.internal:8080\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A host name or IP address (IPv6 in brackets) and a port.",
            "pattern": "^[^*]+:[0-9]+$",
            "examples": ["api.internal:8080", "[fd00::1]:443"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            return Err(format!(
                "`{text}` has a wildcard: name each host and port the function may reach"
            ));
        }
        let wanted = || format!("`{text}` is not {}", Self::WANTED);
        if text.contains("//") {
            return Err(wanted());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(format!(
                "`{text}`: write an IPv6 address in brackets, then `:` and the port"
            ));
        }
        let host: HostPattern = host.parse().map_err(|_| wanted())?;
        match port.parse() {
            Ok(port @ 1..) if !text.ends_with("+") => Ok(Self(OutboundGrant {
                host: host.name().to_owned(),
                port,
            })),
            _ => Err(format!("`{text}`: a port is a number from 1 to 65535")),
        }
    }
}

/// A host of a distribution, or all under a name.
pub(super) struct Host(pub(super) HostPattern);

impl Written for Host {
    const WANTED: &'static str = "a host, such as \"www.example.com\" or \"*.example.com\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A host name, or `*.` and the name that hosts are under.",
            "pattern": "^(\\*\\.)?[^*:/]+$|^\\[[0-9A-Fa-f:.]+\\]$",
            "examples": ["www.example.com", "*.example.com"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        // What a route would leave out, a distribution has to name.
        if matches!(text, "" | "*" | "*.") {
            return Err(format!("`{text}` is not {}", Self::WANTED));
        }
        text.parse()
            .map(Self)
            .map_err(|error: super::super::InvalidHost| error.to_string())
    }
}

/// A status, or a range of them.
pub(super) struct Statuses(pub(super) RangeInclusive<u16>);

impl Written for Statuses {
    const WANTED: &'static str = "a range of statuses: write it in quotes, such as \"200-299\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "A status, or the first and the last of a range.",
            "pattern": "^[0-9]{3}(-[0-9]{3})?$",
            "examples": ["200-299", "204"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let status = |text: &str| {
            let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_status)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) => Ok(Self(first..=last)),
            _ => Err(format!("`{text}` is not {}", Self::WANTED)),
        }
    }
}

/// An address, or all that begin with the same bits.
pub(super) struct NetworkText(pub(super) Network);

impl Written for NetworkText {
    const WANTED: &'static str = "a network, such as \"10.0.0.0/8\"";

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "An IP address, or one with a prefix length.",
            "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
            "examples": ["10.0.0.0/8", "2001:db8::1"],
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: super::super::ParseNetworkError| format!("`{text}` is {error}"))
    }
}

/// Key-value stores: `["default"]`, or a table from the identifier that the guest uses to the store on the node.
#[derive(JsonSchema)]
pub(super) struct Stores(#[schemars(with = "StoresSchema")] pub(super) BTreeMap<String, String>);

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum StoresSchema {
    /// Stores that the guest calls as the node does.
    List(Vec<String>),
    /// The identifier that the guest uses, and the store on the node.
    Table(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for Stores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StoresVisitor;

        impl<'de> Visitor<'de> for StoresVisitor {
            type Value = Stores;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "a list of stores, such as [\"default\"], or a table, such as { default = \"visits\" }",
                )
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Stores, A::Error> {
                let list = Vec::<String>::deserialize(SeqAccessDeserializer::new(list))?;
                checked(list.into_iter().map(|name| (name.clone(), name)).collect())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, table: A) -> Result<Stores, A::Error> {
                checked(Deserialize::deserialize(MapAccessDeserializer::new(table))?)
            }
        }

        fn checked<E: de::Error>(stores: BTreeMap<String, String>) -> Result<Stores, E> {
            let is_name = |name: &str| {
                (1..=64).contains(&name.len())
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            };
            let wrong = stores
                .iter()
                .flat_map(|(identifier, store)| [identifier, store])
                .find(|name| !is_name(name));
            match wrong {
                None => Ok(Stores(stores)),
                Some(name) => Err(E::custom(format!(
                    "`{name}` is not the name of a store: 1 to 64 letters, digits, `-`, `_` or `.`"
                ))),
            }
        }

        deserializer.deserialize_any(StoresVisitor)
    }
}
