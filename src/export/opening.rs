//! What must be right about schema variants and series before a replica makes files by them.

use super::names::{self, MadeBy, NamesError};
use super::{ExportFiles, ExportSettings, settings};
use crate::config::Config;
use cdr_core::LedgerState;
use cdr_storage::Store;
use cdr_tap::{SchemaError, Variant, Variants};
use std::path::PathBuf;
use std::sync::Arc;

/// Why no settlement files can be made as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The schema variants can't be read.
    #[error("the schema variants in {dir} (export.schema_dir) can't be used")]
    Schemas {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        source: SchemaError,
    },
    /// A variant is not there.
    #[error("schema variant {variant}, {whose}, is not in {dir}: install its folder, or name another")]
    Missing {
        /// The variant.
        variant: String,
        /// Who names it.
        whose: String,
        /// The directory.
        dir: PathBuf,
    },
    /// Two files would have one name.
    #[error("files of two series of export.additional_variants could have the same name")]
    Names(#[from] NamesError),
}

/// The files of a replica whose ledger is `store`; none where the configuration names no schema variant. Blocks.
///
/// # Errors
/// [`OpenError`]: the replica must not start.
pub fn open(config: &Config, store: &Store) -> Result<Option<ExportFiles>, OpenError> {
    let Some(settings) = settings(config) else { return Ok(None) };
    let variants = load(config)?;
    let state = store.state();
    let made_by = made_by(config, &settings, &variants, &state)?;
    names::tell_apart_in(store, &made_by, &recording_entities(config, &state))?;
    let own = config.storage.data_dir.join("exports");
    Ok(Some(ExportFiles::new(store.clone(), Arc::new(variants), own)))
}

/// Whether a ledger could begin with the schema variants that the configuration names. Blocks.
///
/// # Errors
/// [`OpenError`].
pub fn check(config: &Config) -> Result<(), OpenError> {
    let Some(settings) = settings(config) else { return Ok(()) };
    let (variants, state) = (load(config)?, LedgerState::default());
    let made_by = made_by(config, &settings, &variants, &state)?;
    names::tell_apart(&made_by, &recording_entities(config, &state)).map_err(NamesError::from)?;
    Ok(())
}

fn load(config: &Config) -> Result<Variants, OpenError> {
    let dir = &config.export.schema_dir;
    Variants::load(dir).map_err(|source| OpenError::Schemas { dir: dir.clone(), source })
}

fn recording_entities<'a>(config: &'a Config, state: &'a LedgerState) -> Vec<&'a str> {
    let configured = config.operators.list.iter().map(|operator| operator.recording_entity.as_str());
    names::recording_entities(configured, state)
}

/// Every series with the variant in force; those that the configuration names must be there, too.
fn made_by<'a>(
    config: &Config,
    settings: &'a ExportSettings,
    variants: &'a Variants,
    state: &LedgerState,
) -> Result<Vec<MadeBy<'a>>, OpenError> {
    let find = |variant: &str, whose: String| -> Result<&'a Arc<Variant>, OpenError> {
        let missing = || OpenError::Missing {
            variant: variant.to_owned(),
            whose,
            dir: config.export.schema_dir.clone(),
        };
        variants.get(variant).ok_or_else(missing)
    };
    let mut made_by = Vec::new();
    for series in &settings.series {
        let key = if series.follows_activation { "schema_variant" } else { "additional_variants" };
        find(&series.variant, format!("which export.{key} names"))?;
        let in_force = find(series.variant_now(state), "which is in force in the ledger".to_owned())?;
        made_by.push((series.name.as_str(), in_force));
    }
    Ok(made_by)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Operator;
    use std::path::Path;

    fn config(variant: &str, further: &[&str]) -> Config {
        let mut config = Config::default();
        config.export.schema_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas");
        config.export.schema_variant = Some(variant.to_owned());
        config.export.additional_variants = further.iter().map(|name| (*name).to_owned()).collect();
        let operator =
            |id: &str, entity: &str| Operator { id: id.to_owned(), recording_entity: entity.to_owned() };
        config.operators.list = vec![operator("AWCC", "4120101"), operator("ROSHAN", "4122001")];
        config
    }

    fn why(config: &Config) -> String {
        format!("{:#}", anyhow::Error::from(check(config).unwrap_err()))
    }

    #[test]
    fn variants_must_be_there_and_give_files_names_of_their_own() {
        check(&Config::default()).unwrap();
        check(&config("atra-tap-v2", &["tap-3-12-standard"])).unwrap();
        assert!(why(&config("atra-tap-v9", &[])).contains("atra-tap-v9, which export.schema_variant names"));
        assert!(why(&config("atra-tap-v2", &["x"])).contains("x, which export.additional_variants names"));
        let collide = why(&config("atra-tap-v2", &["atra-tap-v1"]));
        assert!(collide.contains("would both be named TAP_4120101_41201_00000001.20260420.tap"), "{collide}");
        let mut nowhere = config("atra-tap-v2", &[]);
        nowhere.export.schema_dir = "/nowhere".into();
        assert!(why(&nowhere).contains("/nowhere"), "{}", why(&nowhere));
    }
}
