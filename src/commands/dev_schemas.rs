//! The schema variants that are built into `dev`: those of `tap-schemas`, for where that directory is missing.

use anyhow::Context;
use std::path::{Path, PathBuf};

/// Files of a variant, by name.
type Files = [(&'static str, &'static str); 4];

const VARIANTS: [(&str, Files); 3] = [
    (
        "atra-tap-v1",
        [
            ("rap.asn1", include_str!("../../tap-schemas/atra-tap-v1/rap.asn1")),
            ("rap.toml", include_str!("../../tap-schemas/atra-tap-v1/rap.toml")),
            ("tap.asn1", include_str!("../../tap-schemas/atra-tap-v1/tap.asn1")),
            ("tap.toml", include_str!("../../tap-schemas/atra-tap-v1/tap.toml")),
        ],
    ),
    (
        "atra-tap-v2",
        [
            ("rap.asn1", include_str!("../../tap-schemas/atra-tap-v2/rap.asn1")),
            ("rap.toml", include_str!("../../tap-schemas/atra-tap-v2/rap.toml")),
            ("tap.asn1", include_str!("../../tap-schemas/atra-tap-v2/tap.asn1")),
            ("tap.toml", include_str!("../../tap-schemas/atra-tap-v2/tap.toml")),
        ],
    ),
    (
        "tap-3-12-standard",
        [
            ("rap.asn1", include_str!("../../tap-schemas/tap-3-12-standard/rap.asn1")),
            ("rap.toml", include_str!("../../tap-schemas/tap-3-12-standard/rap.toml")),
            ("tap.asn1", include_str!("../../tap-schemas/tap-3-12-standard/tap.asn1")),
            ("tap.toml", include_str!("../../tap-schemas/tap-3-12-standard/tap.toml")),
        ],
    ),
];

/// Directory of schema variants: `tap-schemas` where there is one, else copies in `dir`.
pub(super) fn directory(dir: &Path) -> anyhow::Result<PathBuf> {
    let here = PathBuf::from("tap-schemas");
    if here.is_dir() {
        return Ok(here);
    }
    let copies = dir.join("tap-schemas");
    for (variant, files) in VARIANTS {
        let folder = copies.join(variant);
        std::fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
        }
    }
    Ok(copies)
}
