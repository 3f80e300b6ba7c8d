//! An auditor's offline checks: nothing but the files, the root's public key and, where one is given, a node's API.
//!
//! | module | checks |
//! |---|---|
//! | [`record`] | a portable proof file of one record |
//! | [`export`] | a settlement file: signature, encoding, totals; by a node's API its trace and every record |
//! | `remote` | asks a node's API |
//!
//! The program `cdr-verify` and the subcommands `verify-record` and `verify-export` of `cdr-mediation` are these checks.
//! It stands on `cdr-core` and `cdr-tap` alone and builds without a C++ compiler. It blocks.

pub mod export;
pub mod record;
mod remote;

use anyhow::{Context, bail};
use cdr_core::proof::{Trust, parse_public_key};
use std::path::{Path, PathBuf};

/// Exit code: what was checked holds.
pub const HOLDS: u8 = 0;
/// Exit code: something does not hold.
pub const VIOLATED: u8 = 1;
/// Exit code: nothing could be checked.
pub const COULD_NOT_RUN: u8 = 2;

/// Whom to trust: a cluster's root key. Without it a signing key is taken as it stands.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArguments {
    /// Name of the cluster.
    #[arg(long, requires = "trust")]
    pub cluster: Option<String>,
    /// File with the root public key, 64 hexadecimal digits.
    #[arg(long, requires = "cluster")]
    pub trust: Option<PathBuf>,
}

impl TrustArguments {
    /// Reads the root's public key; none if nobody is to be trusted.
    fn read(&self) -> anyhow::Result<Option<Trust>> {
        let Some((cluster_id, path)) = self.cluster.as_ref().zip(self.trust.as_deref()) else {
            return Ok(None);
        };
        let root = read_text(path)?;
        let Some(root_public_key) = parse_public_key(&root) else {
            bail!("{} does not hold a public key: 64 hexadecimal digits are expected", path.display());
        };
        Ok(Some(Trust { cluster_id: cluster_id.clone(), root_public_key }))
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

/// An error with its causes, outermost first. A cause whose words the error before it quotes already is left out.
pub fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open {path}: {source}")]
    struct Quoting {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_is_quoted_is_told_once() {
        let source = std::io::Error::from_raw_os_error(2);
        let quoting: Result<(), _> = Err(Quoting { path: "/nowhere/stream", source });
        let told = told_once(&quoting.context("the bus can't be opened").unwrap_err());
        assert_eq!(
            told,
            "the bus can't be opened: cannot open /nowhere/stream: No such file or directory (os error 2)"
        );
        let plain: Result<(), _> = Err(std::io::Error::from_raw_os_error(2));
        let told = told_once(&plain.context("cdr.toml").unwrap_err());
        assert_eq!(told, "cdr.toml: No such file or directory (os error 2)");
    }

    #[test]
    fn a_root_key_is_read_with_its_cluster_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pub");
        let arguments = |cluster: Option<&str>| TrustArguments {
            cluster: cluster.map(str::to_owned),
            trust: Some(path.clone()),
        };
        assert!(arguments(None).read().unwrap().is_none());
        assert!(arguments(Some("dev")).read().unwrap_err().to_string().ends_with("root.pub can't be read"));
        std::fs::write(&path, "no key").unwrap();
        assert!(arguments(Some("dev")).read().unwrap_err().to_string().contains("64 hexadecimal digits"));
        std::fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        let trust = arguments(Some("dev")).read().unwrap().unwrap();
        assert_eq!((trust.cluster_id.as_str(), trust.root_public_key), ("dev", [0xab; 32]));
    }
}
