//! Which addresses are public.
//!
//! What is public is said by exclusion for IPv4, and by inclusion for IPv6, where
//! only `2000::/3` is given out. Addresses that carry an IPv4 address and lead to it are judged by that one.
//!
//! Sources: the IANA special-purpose address registries for IPv4 and IPv6, RFC 6890 and its updates; and the addresses
//! at which clouds answer with a machine's credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is not public in IPv4: network, prefix length, and why. The first that matches tells the reason.
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(169, 254, 169, 254), 32, METADATA),
    // Azure's platform address lies among the public ones.
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 192), 32, METADATA),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    // 6to4 relays (RFC 7526): whoever is nearest.
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// What is not public in IPv6, in the same way.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    // The metadata service of AWS.
    (
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
        METADATA,
    ),
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "private"),
    (
        Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
        7,
        "unique-local",
    ),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "documentation",
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "documentation",
    ),
    (
        Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0),
        48,
        "benchmarking",
    ),
    // Teredo, ORCHID and other protocols' own (RFC 2928): tunnels and identifiers, no hosts.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
];

/// The addresses that are given out to hosts (RFC 4291, section 2.4; IANA IPv6 Global Unicast Address Space).
const V6_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

const METADATA: &str = "metadata service";

/// Why an address is not public, in a word or two. None if the address is public.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    V4.iter()
        .find(|(network, length, _)| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0)
        .map(|(_, _, reason)| *reason)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(embedded) = embedded(address) {
        return refusal_v4(embedded);
    }
    if let Some((_, _, reason)) = V6
        .iter()
        .find(|(network, length, _)| within(address, *network, *length))
    {
        return Some(reason);
    }
    let (network, length) = V6_UNICAST;
    (!within(address, network, length)).then_some("reserved")
}

fn within(address: Ipv6Addr, network: Ipv6Addr, length: u32) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
}

/// The IPv4 address that packets for an IPv6 address end up at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // `::` and `::1` look like IPv4-compatible addresses and are not (RFC 4291, section 2.5.5.1).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible, and IPv4-mapped: the operating system dials IPv4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => last(high, low),
        // NAT64 (RFC 6052): how hosts without IPv4 reach it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => last(high, low),
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => last(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => last(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_address_is_judged_by_name() {
        for (address, expected) in [
            ("1.1.1.1", None),
            ("8.8.8.8", None),
            ("9.255.255.255", None),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("128.0.0.1", None),
            ("172.15.255.255", None),
            ("172.32.0.0", None),
            ("192.167.255.255", None),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.20.0.0", None),
            ("223.255.255.255", None),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("10.0.0.1", Some("private")),
            ("100.64.0.1", Some("carrier-grade NAT")),
            ("100.100.100.200", Some("metadata service")),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("168.63.129.16", Some("metadata service")),
            ("169.254.169.254", Some("metadata service")),
            ("169.254.1.1", Some("link-local")),
            ("172.16.0.1", Some("private")),
            ("172.31.255.255", Some("private")),
            ("192.0.0.8", Some("reserved")),
            ("192.0.2.1", Some("documentation")),
            ("192.168.1.1", Some("private")),
            ("198.19.255.255", Some("benchmarking")),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("broadcast")),
            ("2606:4700:4700::1111", None),
            ("2001:4860:4860::8888", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::127.0.0.1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:8.8.8.8", None),
            ("::ffff:0:10.0.0.1", Some("private")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b::10.0.0.1", Some("private")),
            ("64:ff9b:1::8.8.8.8", Some("private")),
            ("2002:7f00:1::", Some("loopback")),
            ("2002:808:808::1", None),
            ("2001:0:53aa:64c::1", Some("reserved")),
            ("2001:db8::1", Some("documentation")),
            ("3fff::1", Some("documentation")),
            ("2001:2::1", Some("benchmarking")),
            ("fc00::1", Some("unique-local")),
            ("fd00:ec2::254", Some("metadata service")),
            ("fd00:ec2::253", Some("unique-local")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("fec0::1", Some("private")),
            ("ff02::1", Some("multicast")),
            ("100::1", Some("reserved")),
            ("4000::1", Some("reserved")),
            ("5f00::1", Some("reserved")),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(refusal(parsed), expected, "{address}");
        }
    }

    /// The slow version: what the standard library has names for, and the rest written out in octets.
    fn is_public(address: Ipv4Addr) -> bool {
        let special = match address.octets() {
            [0, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => true,
            [100, second, ..] => (64..128).contains(&second),
            [198, 18 | 19, ..] => true,
            octets => octets == [168, 63, 129, 16],
        };
        !(special
            || address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_documentation()
            || address.is_multicast())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn an_ipv4_address_is_judged_as_the_slow_version_does(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(refusal_v4(address).is_none(), is_public(address), "{}", address);
        }

        /// Whatever leads to an IPv4 address is judged as that address.
        #[test]
        fn an_address_in_disguise_is_judged_as_itself(bits: u32, rest: u64, near: bool) {
            // Half of them near the start of a listed network, where they are hardly by chance.
            let bits = match V4.get(usize::try_from(bits).unwrap() % V4.len()) {
                Some((network, _, _)) if near => network.to_bits().wrapping_add(bits % 300),
                _ => bits,
            };
            let address = Ipv4Addr::from_bits(bits);
            let expected = refusal_v4(address);
            let (low, rest) = (u128::from(bits), u128::from(rest));
            for prefix in [0xffff_u128 << 32, 0x0064_ff9b << 96, 0xffff << 48] {
                let disguised = Ipv6Addr::from_bits(prefix | low);
                prop_assert_eq!(refusal(disguised.into()), expected, "{}", disguised);
            }
            let sixtofour = Ipv6Addr::from_bits(0x2002 << 112 | low << 80 | rest);
            prop_assert_eq!(refusal(sixtofour.into()), expected, "{}", sixtofour);
            if bits > 1 {
                let compatible = Ipv6Addr::from_bits(low);
                prop_assert_eq!(refusal(compatible.into()), expected, "{}", compatible);
            }
        }

        /// Nothing outside of what is given out is public, except what leads to a public IPv4 address.
        #[test]
        fn an_ipv6_address_is_public_only_where_they_are_given_out(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            if embedded(address).is_none() && bits >> 125 != 1 {
                prop_assert!(refusal(address.into()).is_some(), "{}", address);
            }
        }
    }
}
