//! Lists of networks.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of IP networks. IPv4-mapped IPv6 networks (RFC 4291 §2.5.5.2) count as the IPv4 networks that they represent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint and sorted, so that a look-up is a binary search.
    networks: Vec<IpNet>,
}

impl Networks {
    /// Parses networks (RFC 4632 notation) and addresses, separated by commas. An empty text is an empty list.
    /// `None` if an item is neither, or has bits set after its prefix: `10.0.0.1/8` may be meant as one address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let networks: Vec<IpNet> = text.split(',').map(|item| network(item.trim())).collect::<Option<_>>()?;
        let mut networks = IpNet::aggregate(&networks);
        networks.sort_unstable();
        Some(Self { networks })
    }

    /// Returns whether one of the networks contains this address, IPv4-mapped or not.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let after = self.networks.partition_point(|network| network.network() <= address);
        self.networks[..after].last().is_some_and(|network| network.contains(&address))
    }

    /// Returns whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// Parses one item of a list. The standard library parses the address and accepts no leading zeros, which some programs read as octal.
fn network(item: &str) -> Option<IpNet> {
    let given = match item.split_once('/') {
        None => IpNet::from(item.parse::<IpAddr>().ok()?),
        Some((address, prefix)) => {
            let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
            IpNet::new(address.parse().ok()?, prefix.parse().ok().filter(|_| digits)?).ok()?
        }
    };
    let network = match given {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            IpNet::new(v6.addr().to_canonical(), v6.prefix_len() - 96).ok()?
        }
        other => other,
    };
    (network.addr() == network.network()).then_some(network)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(list: &str, address: &str) -> bool {
        Networks::parse(list).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let list = "10.0.0.0/8, 192.0.2.7 ,2001:db8::/32,fd00::1,10.1.0.0/16";
        for inside in
            ["10.0.0.0", "10.255.255.255", "10.1.2.3", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8:ffff::1", "fd00::1"]
        {
            assert!(holds(list, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "fd00::2", "::1"] {
            assert!(!holds(list, outside), "{outside}");
        }
    }

    #[test]
    fn mapped_networks_are_ipv4_networks() {
        assert!(holds("::ffff:192.0.2.0/120", "192.0.2.200"));
        assert!(holds("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(holds("0.0.0.0/0", "::ffff:192.0.2.7"));
        assert!(!holds("::/0", "192.0.2.7"), "every IPv6 address is no IPv4 address");
    }

    #[test]
    fn an_empty_list_holds_nothing() {
        for empty in ["", " "] {
            assert!(Networks::parse(empty).unwrap().is_empty());
        }
        assert!(!holds("", "127.0.0.1"));
    }

    #[test]
    fn anything_else_is_no_list_of_networks() {
        for bad in [
            ",",
            "10.0.0.0/8,",
            ",10.0.0.0/8",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::ffff:10.0.0.1/104",
            "fd00::1/8",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "010.0.0.0/8",
            "proxy.example.com",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.0/8 10.1.0.0/16",
            "10.0.0.0/255.0.0.0",
            "*",
        ] {
            assert_eq!(Networks::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_list_holds_what_one_of_its_networks_holds(
            networks in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..8),
            address in any::<u32>(),
            nearby in any::<proptest::sample::Index>(),
        ) {
            let networks: Vec<_> =
                networks.into_iter().map(|(bits, prefix)| IpNet::new(IpAddr::from(bits.to_be_bytes()), prefix).unwrap().trunc()).collect();
            let text = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let list = Networks::parse(&text).unwrap();
            let mut addresses = vec![IpAddr::from(address.to_be_bytes())];
            if !networks.is_empty() {
                let network = nearby.get(&networks);
                addresses.extend([network.network(), network.broadcast()]);
            }
            for address in addresses {
                prop_assert_eq!(list.contains(address), networks.iter().any(|network| network.contains(&address)));
            }
        }
    }
}
