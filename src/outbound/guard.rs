//! Which addresses are asked: nobody's answer must lead into the networks behind us.
//!
//! Every address that a name resolves to is checked when the connection is made, so that a name cannot mean one thing
//! when it is looked at and another when it is used. Addresses written as numbers pass no resolver; they are checked
//! where URLs are ([`literal`]).
//!
//! Nobody is asked at addresses where clouds keep the credentials of their machines, and at those that stand for no single
//! host. A registry or git provider that a Project or the settings name may be on a private network or on this machine. Where an
//! answer leads (a redirect, a token service) may not be, unless it is the registry's own host or the settings name it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Who named a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// We: a Project, or the settings.
    Named,
    /// Whoever was asked, in an answer.
    Led,
}

/// Addresses outside the ranges below at which clouds answer with what their machines may do.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Why an address is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(
    /// The rule that it breaks.
    pub &'static str,
);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

/// Whether this address may be asked.
///
/// # Errors
/// Why not.
pub fn check(address: IpAddr, reach: Reach) -> Result<(), Refused> {
    let address = plain(address);
    let never = match address {
        _ if METADATA.contains(&address) => Some("its address is a cloud's, for the credentials of its machines"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("its address is unspecified"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("its address is unspecified"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("its address is link-local, where clouds keep credentials"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("its address is link-local, where clouds keep credentials")
        }
        IpAddr::V4(v4) if v4.octets()[0] >= 224 => Some("its address is a multicast or reserved one"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("its address is a multicast or reserved one"),
        _ => None,
    };
    let unless_named = || match address {
        _ if address.is_loopback() => Some("its address is this machine's own (loopback)"),
        IpAddr::V4(v4) if is_inner(v4) => Some("its address is a private one"),
        // fc00::/7, and fec0::/10 from before it.
        IpAddr::V6(v6) if v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0 => {
            Some("its address is a private one")
        }
        _ => None,
    };
    let why = match reach {
        Reach::Named => never,
        Reach::Led => never.or_else(unless_named),
    };
    why.map_or(Ok(()), |why| Err(Refused(why)))
}

/// Networks that are not the internet: private ones, those of carriers (100.64/10), of protocols (192.0.0/24), of
/// measurements (198.18/15).
fn is_inner(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private() || (a == 100 && b & 0xc0 == 64) || (a, b, c) == (192, 0, 0) || (a == 198 && b & 0xfe == 18)
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 and 6to4.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => address,
    }
}

/// Checks the host of a URL if it is written as a number. Names are checked when they are resolved.
///
/// # Errors
/// Why it is not asked.
pub fn literal(url: &Url, reach: Reach) -> Result<(), Refused> {
    let Some(host) = url.host_str() else {
        return Err(Refused("its URL names no host"));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().map_or(Ok(()), |address| check(address, reach))
}

/// Checks all addresses of a name: one that is refused refuses the name.
fn checked(addresses: Vec<std::net::SocketAddr>, reach: Reach) -> Result<Addrs, Refused> {
    for address in &addresses {
        check(address.ip(), reach)?;
    }
    Ok(Box::new(addresses.into_iter()))
}

/// The system's resolver, whose answers are checked.
pub struct Guarded(
    /// Who named the hosts.
    pub Reach,
);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(checked(addresses, reach)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Reach; 2] = [Reach::Named, Reach::Led];

    fn asked(address: &str) -> [bool; 2] {
        BOTH.map(|reach| check(address.parse().unwrap(), reach).is_ok())
    }

    #[track_caller]
    fn all(addresses: &[&str], named: bool, led: bool) {
        for address in addresses {
            assert_eq!(asked(address), [named, led], "{address}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_asked() {
        all(
            &[
                "1.1.1.1",
                "8.8.8.8",
                "172.15.0.1",
                "172.32.0.1",
                "100.63.0.1",
                "100.128.0.1",
                "192.0.1.1",
                "198.20.0.1",
                "2606:4700::1111",
                "2001:4860:4860::8888",
            ],
            true,
            true,
        );
    }

    #[test]
    fn link_local_addresses_are_never_asked() {
        all(&["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1"], false, false);
    }

    #[test]
    fn metadata_services_are_never_asked() {
        all(
            &["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"],
            false,
            false,
        );
    }

    #[test]
    fn unspecified_addresses_are_never_asked() {
        all(&["0.0.0.0", "0.1.2.3", "::"], false, false);
    }

    #[test]
    fn multicast_and_reserved_addresses_are_never_asked() {
        all(&["224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1"], false, false);
    }

    #[test]
    fn loopback_is_asked_only_if_it_is_named() {
        all(&["127.0.0.1", "127.255.0.1", "::1"], true, false);
    }

    #[test]
    fn private_networks_are_asked_only_if_they_are_named() {
        all(&["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"], true, false);
    }

    #[test]
    fn networks_of_carriers_are_asked_only_if_they_are_named() {
        all(&["100.64.0.1", "100.127.255.255"], true, false);
    }

    #[test]
    fn networks_of_protocols_and_measurements_are_asked_only_if_they_are_named() {
        all(&["192.0.0.1", "198.18.0.1", "198.19.255.255"], true, false);
    }

    #[test]
    fn unique_local_addresses_are_asked_only_if_they_are_named() {
        all(&["fc00::1", "fd12:3456::1", "fec0::1"], true, false);
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_address_counts_as_it_is() {
        for (inner, [named, led]) in [
            ("169.254.169.254", [false, false]),
            ("127.0.0.1", [true, false]),
            ("10.0.0.1", [true, false]),
            ("1.1.1.1", [true, true]),
        ] {
            let v4: Ipv4Addr = inner.parse().unwrap();
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            all(
                &[
                    &format!("::ffff:{inner}"),
                    &format!("::{high:x}:{low:x}"),
                    &format!("64:ff9b::{high:x}:{low:x}"),
                    &format!("2002:{high:x}:{low:x}::1"),
                ],
                named,
                led,
            );
        }
    }

    #[test]
    fn one_refused_address_refuses_the_name() {
        let all = |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect();
        assert!(checked(all(&["1.1.1.1:0", "8.8.8.8:0"]), Reach::Led).is_ok());
        assert!(checked(all(&["1.1.1.1:0", "10.0.0.1:0"]), Reach::Led).is_err());
        assert!(checked(all(&["1.1.1.1:0", "10.0.0.1:0"]), Reach::Named).is_ok());
        assert!(checked(all(&["1.1.1.1:0", "[fe80::1]:0"]), Reach::Named).is_err());
    }

    #[test]
    fn addresses_written_as_numbers_are_checked_however_they_are_written() {
        for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"] {
            let url: Url = format!("https://{host}/v2/").parse().unwrap();
            assert_eq!(literal(&url, Reach::Named), Ok(()), "{host}");
            assert!(literal(&url, Reach::Led).is_err(), "{host}");
        }
        for host in ["169.254.169.254", "2852039166", "[fe80::1]", "[::ffff:a9fe:a9fe]"] {
            let url: Url = format!("https://{host}/v2/").parse().unwrap();
            for reach in BOTH {
                assert!(literal(&url, reach).is_err(), "{host}");
            }
        }
        assert_eq!(literal(&"https://registry.test/".parse().unwrap(), Reach::Led), Ok(()));
    }
}
