//! Collects what is wrong with a configuration, by key.

use super::Problem;
use std::net::SocketAddr;

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Check(Vec<Problem>);

impl Check {
    /// What was found.
    pub(super) fn problems(self) -> Vec<Problem> {
        self.0
    }

    pub(super) fn that(&mut self, holds: bool, key: &str, why: &str) {
        if !holds {
            self.0.push(Problem { key: key.to_owned(), why: why.to_owned() });
        }
    }

    pub(super) fn range<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        from: T,
        upto: T,
    ) {
        let why = format!("{value} is out of range: {from} to {upto} is allowed");
        self.that(value >= from && value <= upto, key, &why);
    }

    /// A name of a stream or a durable consumer.
    pub(super) fn bus_name(&mut self, key: &str, name: &str) {
        let plain = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        self.that(plain, key, "1 to 64 of A-Z a-z 0-9 _ -");
    }

    pub(super) fn listens(&mut self, key: &str, address: &str) {
        let why = format!("{address:?} is not IP:PORT, such as 127.0.0.1:3018");
        self.that(address.parse::<SocketAddr>().is_ok(), key, &why);
    }
}
