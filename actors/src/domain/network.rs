//! The network that identifies one client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::networks::Networks;

/// The length of the IPv6 prefix that identifies one client, and the networks with special treatment.
#[derive(Debug, Clone)]
pub struct ClientNetworks {
    /// The length of the IPv6 prefix that one subscriber usually has to itself (`IPV6_PREFIX`), 1 to 128 (S17).
    pub ipv6_prefix: u8,
    /// Networks whose requests and failures are not counted by address (`RATE_LIMITS_ALLOW`).
    pub allow: Networks,
    /// Networks that are refused (`RATE_LIMITS_DENY`).
    pub deny: Networks,
}

impl Default for ClientNetworks {
    /// /64, and no network has special treatment.
    fn default() -> Self {
        Self { ipv6_prefix: 64, allow: Networks::default(), deny: Networks::default() }
    }
}

impl ClientNetworks {
    /// Returns the address that identifies a client: its IPv4 address, even if mapped into IPv6, or its IPv6 network (S17).
    #[must_use]
    pub fn of(&self, client: IpAddr) -> IpAddr {
        match client.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(prefix_of(v6, self.ipv6_prefix)),
            v4 @ IpAddr::V4(_) => v4,
        }
    }

    /// Returns whether a client is exempt from counting by address.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allow.contains(client)
    }

    /// Returns whether a client is refused. A client on both lists is refused.
    #[must_use]
    pub fn denies(&self, client: IpAddr) -> bool {
        self.deny.contains(client)
    }
}

/// Returns the leading bits of an IPv6 address; the other bits are zero.
pub(crate) fn prefix_of(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

/// The network that stands for an address and its neighbours when too many clients are counted: a /16 of IPv4, or a /32 of IPv6,
/// which is about one provider's.
pub(crate) fn coarser(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & 0xFFFF_0000)),
        IpAddr::V6(v6) => IpAddr::V6(prefix_of(v6, 32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s17_one_client_has_one_key() {
        let networks = ClientNetworks::default();
        let key = |text: &str| networks.of(text.parse().unwrap());
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::4"), key("2001:db8:1:3::4"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn s17_the_prefix_can_be_chosen() {
        let key = |bits, text: &str| prefix_of(text.parse().unwrap(), bits).to_string();
        assert_eq!(key(48, "2001:db8:1:2:3::4"), "2001:db8:1::");
        assert_eq!(key(128, "2001:db8::1"), "2001:db8::1");
        assert_eq!(key(0, "2001:db8::1"), "::");
        assert_eq!(key(255, "2001:db8::1"), "2001:db8::1");
    }

    #[test]
    fn networks_hold_their_own_also_when_mapped() {
        let networks = ClientNetworks {
            allow: Networks::parse("192.0.2.0/24,2001:db8::/32").unwrap(),
            ..ClientNetworks::default()
        };
        for inside in ["192.0.2.255", "::ffff:192.0.2.1", "2001:db8:ffff::1"] {
            assert!(networks.allows(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["192.0.3.0", "2001:db9::1", "::1"] {
            assert!(!networks.allows(outside.parse().unwrap()), "{outside}");
        }
        assert!(!networks.denies("192.0.2.1".parse().unwrap()));
    }
}
