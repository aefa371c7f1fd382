//! Which addresses a request may end up at, by what the address is and not by what it is called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use homarus_contract::outbound::Reach;

/// Names under which clouds serve credentials to whoever asks. Their addresses are refused as well.
const METADATA_NAMES: [&str; 7] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
];
/// Metadata services that do not stand at a link-local address.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

enum Kind {
    Public,
    /// In private use: this machine or a network somebody runs.
    Private(&'static str),
    /// Never somebody's ordinary server.
    Special(&'static str),
}

/// Why an address may not be reached, if so.
pub(crate) fn refusal(address: IpAddr, reach: Reach) -> Option<String> {
    let why = match (kind(address), reach) {
        (_, Reach::Any) | (Kind::Public, _) | (Kind::Private(_), Reach::Private) => return None,
        (Kind::Private(why) | Kind::Special(why), _) => why,
    };
    Some(format!("{address} is {why}"))
}

/// Why a name may not be reached, whatever it resolves to.
pub(crate) fn name_refusal(host: &str, reach: Reach) -> Option<String> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    (reach != Reach::Any && METADATA_NAMES.contains(&name.as_str()))
        .then(|| "it is the name of a cloud metadata service".to_owned())
}

/// The address in a URL's host, if it is one. URLs have their numbers in the usual form already.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return Kind::Special("a cloud metadata service");
    }
    match (a, b, c) {
        (0, ..) => Kind::Special("an unspecified address"),
        (127, ..) => Kind::Private("a loopback address of this machine"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Kind::Private("a private address"),
        (100, 64..=127, _) => Kind::Private("a shared address of a provider's network"),
        (169, 254, _) => Kind::Special("a link-local address (where clouds serve metadata)"),
        (192, 0, 0) => Kind::Special("a protocol assignment"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Kind::Special("a documentation address"),
        (192, 88, 99) => Kind::Special("a relay of a retired protocol"),
        (198, 18..=19, _) => Kind::Special("a benchmark address"),
        (224..=239, ..) => Kind::Special("a multicast address"),
        (240..=255, ..) => Kind::Special("a reserved or broadcast address"),
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let parts = address.segments();
    if METADATA_V6.contains(&address) {
        return Kind::Special("a cloud metadata service");
    }
    if let Some(inner) = address.to_ipv4_mapped() {
        return kind_v4(inner);
    }
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Special("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("a loopback address of this machine"),
        [0, 0, 0, 0, 0, 0, ..] => Kind::Special("an IPv4 address in a retired form"),
        // The translator of this network takes it to the IPv4 address at its end.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => kind_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        [0x64, 0xff9b, ..] => Kind::Special("an address of a local translator"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Kind::Private("a unique local address"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Kind::Special("a link-local address"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Kind::Special("a site-local address"),
        [first, ..] if first & 0xff00 == 0xff00 => Kind::Special("a multicast address"),
        [0x2001, 0, ..] => Kind::Special("a tunnel address (Teredo)"),
        [0x2001, 0xdb8, ..] => Kind::Special("a documentation address"),
        [0x2001, 2, 0, ..] => Kind::Special("a benchmark address"),
        [0x2001, second, ..] if second < 0x200 => Kind::Special("a protocol assignment"),
        [0x2002, ..] => Kind::Special("a tunnel address (6to4)"),
        [0x3fff, second, ..] if second < 0x1000 => Kind::Special("a documentation address"),
        // An interface identifier of ISATAP holds the IPv4 address behind a tunnel.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Kind::Special("a tunnel address (ISATAP)"),
        [first, ..] if first & 0xe000 == 0x2000 => Kind::Public,
        _ => Kind::Special("an address that is not in use"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, public: bool, private: bool) {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(refusal(address, Reach::Public).is_none(), public, "{address} as a public one");
        assert_eq!(refusal(address, Reach::Private).is_none(), private, "{address} as a private one");
        assert_eq!(refusal(address, Reach::Any), None);
    }

    #[test]
    fn public_addresses() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
        ] {
            check(address, true, true);
        }
    }

    #[test]
    fn private_addresses_need_a_name() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.0.0.1",
            "fc00::1",
            "fdff::1",
        ] {
            check(address, false, true);
        }
    }

    #[test]
    fn special_addresses_are_never_meant() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::7f00:1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "2001::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:20::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "2606::5efe:7f00:1",
            "100::1",
            "5f00::1",
            "4000::1",
        ] {
            check(address, false, false);
        }
    }

    #[test]
    fn metadata_names_are_refused_by_name() {
        for name in ["metadata.google.internal", "METADATA.google.internal.", "metadata"] {
            assert!(name_refusal(name, Reach::Private).is_some() && name_refusal(name, Reach::Any).is_none(), "{name}");
        }
        assert_eq!(name_refusal("example.org", Reach::Public), None);
    }
}
