//! What lies beside a node and is not public, and which functions may call it (Lambda API, `VpcConfig`).
//!
//! A node has no network interfaces to attach to functions. What it has of a VPC is what decides which addresses a function
//! reaches: a subnet is the networks that it leads to, a security group the rules for traffic that goes out. An address is
//! open to a function if one of its subnets has it and one of its security groups lets traffic out to it. Public addresses
//! are open to every function, with a VPC configuration or without.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer};

use super::{LambdaSettings, Network};

/// The subnets and security groups of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    /// Where each subnet leads to, by its id, such as `subnet-0a1b2c3d`.
    #[serde(default)]
    pub subnets: BTreeMap<String, Vec<Network>>,
    /// What each security group lets out, by its id, such as `sg-0a1b2c3d`.
    #[serde(default)]
    pub security_groups: BTreeMap<String, Vec<Egress>>,
}

/// A rule of a security group for traffic that goes out. Written as a network for all ports, or as `{ to, port }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// To these addresses.
    pub to: Network,
    /// To this port; to all without.
    pub port: Option<u16>,
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a rule is a network such as `10.0.0.0/8`, or `{ to = \"10.0.0.0/8\", port = 443 }`"
        )]
        enum Written {
            Network(Network),
            Rule(Rule),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Rule {
            to: Network,
            port: Option<u16>,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Network(to) => Self { to, port: None },
            Written::Rule(Rule { to, port }) => Self { to, port },
        })
    }
}

/// The subnets and security groups of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VpcConfig {
    /// The ids of its subnets.
    pub subnet_ids: Vec<String>,
    /// The ids of its security groups.
    pub security_group_ids: Vec<String>,
}

impl VpcConfig {
    /// What the function's settings say.
    pub fn of(settings: &LambdaSettings) -> Self {
        let config = settings.members.get("VpcConfig");
        config
            .and_then(|config| Self::deserialize(config).ok())
            .unwrap_or_default()
    }
}

impl Vpc {
    /// What a function with this configuration reaches. Ids that the node has not, or has no more, open nothing.
    pub fn reach(&self, config: &VpcConfig) -> Reach {
        let subnets = config.subnet_ids.iter();
        let groups = config.security_group_ids.iter();
        Reach {
            subnets: subnets
                .filter_map(|id| self.subnets.get(id))
                .flatten()
                .copied()
                .collect(),
            egress: groups
                .filter_map(|id| self.security_groups.get(id))
                .flatten()
                .copied()
                .collect(),
        }
    }
}

/// What a function reaches beside public addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    subnets: Vec<Network>,
    egress: Vec<Egress>,
}

impl Reach {
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.subnets.is_empty() || self.egress.is_empty()
    }

    /// Whether the function may call this address and port.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        let lets_out = |rule: &Egress| {
            rule.to.contains(address) && rule.port.is_none_or(|allowed| allowed == port)
        };
        self.subnets.iter().any(|subnet| subnet.contains(address))
            && self.egress.iter().any(lets_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vpc() -> Vpc {
        let text = r#"
            [subnets]
            subnet-a = ["10.1.0.0/16"]
            subnet-b = ["10.2.0.0/16", "fd00::/64"]
            [security_groups]
            sg-web = [{ to = "10.0.0.0/8", port = 443 }, { to = "fd00::/8" }]
            sg-all = ["0.0.0.0/0"]
        "#;
        toml::from_str(text).unwrap()
    }

    #[test]
    fn an_address_is_open_that_a_subnet_has_and_a_security_group_lets_out_to() {
        let vpc = vpc();
        for (subnets, groups, address, port, open) in [
            (&["subnet-a"][..], &["sg-web"][..], "10.1.2.3", 443, true),
            (&["subnet-a"], &["sg-web"], "::ffff:10.1.2.3", 443, true),
            (&["subnet-a"], &["sg-web"], "10.1.2.3", 80, false),
            (&["subnet-a"], &["sg-web"], "10.2.2.3", 443, false),
            (
                &["subnet-a", "subnet-b"],
                &["sg-web"],
                "10.2.2.3",
                443,
                true,
            ),
            (&["subnet-a"], &["sg-web", "sg-all"], "10.1.2.3", 80, true),
            (&["subnet-b"], &["sg-web"], "fd00::1", 1, true),
            (&["subnet-b"], &["sg-all"], "fd00::1", 1, false),
            (&["subnet-c"], &["sg-all"], "10.1.2.3", 443, false),
            (&["subnet-a"], &["sg-c"], "10.1.2.3", 443, false),
            (&["subnet-a"], &[], "10.1.2.3", 443, false),
            (&[], &["sg-all"], "10.1.2.3", 443, false),
        ] {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            let reach = vpc.reach(&VpcConfig {
                subnet_ids: owned(subnets),
                security_group_ids: owned(groups),
            });
            let allowed = reach.allows(address.parse().unwrap(), port);
            assert_eq!(allowed, open, "{subnets:?} {groups:?} {address}:{port}");
            assert!(!(open && reach.is_empty()));
        }
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for (text, expected) in [
            ("[subnets]\na = ['10.0.0.0/40']", "not a network"),
            ("[security_groups]\na = ['x']", "a rule is a network"),
            (
                "[security_groups]\na = [{ to = '::/0', ports = 1 }]",
                "a rule is a network",
            ),
            ("[groups]", "unknown field `groups`"),
        ] {
            let error = toml::from_str::<Vpc>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
