//! Networks that a role, a token or an enrolment string may be used from. The only parser of their text forms.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::api::fields::{FieldError, Fields};

/// Largest number of networks in one list.
pub const MAX_CIDRS: usize = 64;

/// A network: an address and the number of its leading bits that count. The other bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// The text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address or network such as 10.0.0.0/8 or fd00::/8")]
pub struct CidrError;

impl Cidr {
    /// Parses `10.0.0.0/8`, `fd00::/8` or a single address. An IPv6 address that maps an IPv4 address becomes that
    /// address.
    ///
    /// # Errors
    /// [`CidrError`] for anything else, also when bits after the prefix are set, which is usually a typing error.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let full = width(address);
        let mut bits = match bits {
            None => full,
            Some(text) if (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse::<u8>().ok().filter(|bits| *bits <= full).ok_or(CidrError)?
            }
            Some(_) => return Err(CidrError),
        };
        let base = address.to_canonical();
        if base != address {
            bits = bits.checked_sub(96).ok_or(CidrError)?;
        }
        if masked(base, bits) == base { Ok(Self { base, bits }) } else { Err(CidrError) }
    }

    /// Whether it is a network of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Whether `address` is in the network. IPv6 addresses that map an IPv4 address count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.bits) == self.base
    }
}

/// Whether a peer at `address` is admitted. An empty list admits every peer. Any other list rejects a peer whose
/// address is unknown.
#[must_use]
pub fn admits(networks: &[Cidr], address: Option<IpAddr>) -> bool {
    networks.is_empty() || address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
}

/// The networks in a field, at most [`MAX_CIDRS`].
///
/// # Errors
/// [`FieldError::Must`] when there are more, or one is not a network.
pub fn networks(fields: Fields<'_>, name: &'static str) -> Result<Option<Vec<Cidr>>, FieldError> {
    let Some(list) = fields.list(name)? else { return Ok(None) };
    if list.len() > MAX_CIDRS {
        return Err(FieldError::Must(name, "at most 64 networks"));
    }
    let networks: Result<Vec<_>, _> = list.iter().map(|text| Cidr::parse(text)).collect();
    networks.map(Some).map_err(|_| FieldError::Must(name, "networks such as 10.0.0.0/8 or fd00::/8"))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.base) {
            write!(f, "{}", self.base)
        } else {
            write!(f, "{}/{}", self.base, self.bits)
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        Self::parse(&text)
    }
}

impl From<Cidr> for String {
    fn from(network: Cidr) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_hold_networks() {
        let taken = |text: &str| {
            networks(crate::api::request::Body::of(text).fields(), "n").map(|all| all.map(|all| all.len()))
        };
        assert_eq!(taken(r#"{"n":"10.0.0.0/8, fd00::/8"}"#), Ok(Some(2)));
        assert_eq!((taken("{}"), taken(r#"{"n":[]}"#)), (Ok(None), Ok(Some(0))));
        assert!(taken(r#"{"n":"10.0.0.1/8"}"#).is_err() && taken(r#"{"n":{}}"#).is_err());
    }

    #[test]
    fn addresses_lie_within_or_not() {
        for (network, address, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("fd00::/8", "fd12::1", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
        ] {
            let network = Cidr::parse(network).expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), want, "{network} {address}");
        }
        assert!(admits(&[], None));
        assert!(!admits(&[Cidr::parse("0.0.0.0/0").expect("all")], None));
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10.0.0/8",
            "::/129",
            "a/8",
            "::ffff:0:0/8",
            "10.0.0.0/008x",
            " 10.0.0.1",
        ] {
            assert_eq!(Cidr::parse(text), Err(CidrError), "{text}");
        }
        assert_eq!(Cidr::parse("10.0.0.7/32").expect("one address").to_string(), "10.0.0.7");
    }

    proptest! {
        #[test]
        fn reads_back(text in "\\PC{0,20}|[0-9]{1,3}\\.0\\.0\\.0/[0-9]{1,2}|[0-9a-f:]{2,9}(/[0-9]{1,3})?") {
            if let Ok(network) = Cidr::parse(&text) {
                prop_assert_eq!(Cidr::parse(&network.to_string()), Ok(network));
                prop_assert!(network.contains(network.base));
            }
        }
    }
}
