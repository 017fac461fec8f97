//! Which addresses an `http` task may reach.
//!
//! A workflow is written by a tenant and runs inside the operator's network, so it must not reach what only that network
//! can: loopback, private and link-local addresses, the metadata services of clouds. What is refused is refused by the
//! address that is really connected to, after the name was resolved; names are not trusted.
//!
//! Source of the ranges: the IANA registries of special-purpose addresses for IPv4 and IPv6.
//!
//! Deliberately absent: names that are refused. A name is as good as the address behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that are allowed although they are refused by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed(Vec<(IpAddr, u8)>);

/// Reads `127.0.0.0/8, ::1/128`.
pub(crate) fn parse_allowed(text: &str) -> Result<Allowed, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let network = |part: &str| {
        let (address, length) = part.split_once('/')?;
        let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
    };
    let networks = parts.map(|part| {
        network(part).ok_or_else(|| {
            format!("{part:?} is no network; write an address and a length, such as 10.0.0.0/8")
        })
    });
    networks.collect::<Result<_, _>>().map(Allowed)
}

impl Allowed {
    /// Returns why an address must not be reached; nothing if it may.
    pub(super) fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let address = inner(address);
        if self.0.iter().any(|(network, length)| is_within(address, *network, *length)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => refused_v4(address),
            IpAddr::V6(address) => refused_v6(address),
        }
    }
}

/// Returns the IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 and 6to4.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0, 0, 0, 0, 0, 0] if g != 0 => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((one, width), (other, expected)) = (bits(address), bits(network));
    if width != expected {
        return false;
    }
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
    one & mask == other & mask
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (0, ..) => "this network",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private network",
        (100, 64..=127, _) => "shared address space",
        (127, ..) => "loopback",
        (169, 254, _) => "link-local, where clouds keep their metadata",
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => "reserved for protocols and examples",
        (198, 18 | 19, _) => "reserved for measurements",
        (224..=239, ..) => "multicast",
        (240.., ..) => "reserved",
        _ => return None,
    })
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, ..] = address.segments();
    Some(match a {
        0 if address.is_unspecified() => "no address",
        0 if address.is_loopback() => "loopback",
        0xfc00..=0xfdff => "a private network",
        0xfe80..=0xfebf => "link-local",
        0xfec0..=0xfeff => "site-local",
        0xff00.. => "multicast",
        0x2001 if b == 0 => "a tunnel (Teredo)",
        0x2001 if b == 0xdb8 => "reserved for examples",
        0x100 if b == 0 => "a black hole",
        0..=0xff => "reserved",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_inside_can_reach_is_refused_in_every_spelling() {
        let nothing = Allowed::default();
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
        ] {
            assert!(nothing.refuses(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert_eq!(nothing.refuses(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_nothing_beside_it() {
        let allowed = parse_allowed("127.0.0.0/8, fd00::/16,10.1.0.0/16").unwrap();
        for (text, may) in [
            ("127.9.9.9", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("fd00::9", true),
            ("fd01::9", false),
            ("::1", false),
        ] {
            assert_eq!(allowed.refuses(text.parse().unwrap()).is_none(), may, "{text}");
        }
        assert_eq!(parse_allowed("").unwrap(), Allowed::default());
        for wrong in ["127.0.0.1", "10.0.0.0/33", "localhost/8", "::1/129"] {
            assert!(parse_allowed(wrong).unwrap_err().contains("is no network"), "{wrong}");
        }
    }
}
