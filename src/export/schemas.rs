//! Which schema variants there are, who gets files made by which, and a trial of their encoders.

use super::SeriesSettings;
use crate::names::variant_in_force;
use cdr_core::export::ExportPins;
use cdr_core::row::Sms;
use cdr_core::{Hash, LedgerState, Row};

/// What there is to know of settlement files beyond the ledger.
pub struct Schemas {
    /// The variants that can be used.
    pub variants: Vec<SchemaVariant>,
    /// Who gets files.
    pub series: Vec<SeriesSettings>,
    /// Encodes records for trial.
    pub trial: Box<dyn Trial>,
}

/// A schema variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVariant {
    /// Its name.
    pub name: String,
    /// SHA-256 over its files.
    pub hash: Hash,
}

/// Encodes a record for trial, as a file would.
pub trait Trial: Send + Sync {
    /// Encodes the call event of `original` with the values of `priced`, the version of it that has a price, by a
    /// variant.
    ///
    /// # Errors
    /// What the encoder says.
    fn encode(&self, variant: &str, original: &Row<'_>, priced: &Sms<'_>) -> Result<(), String>;

    /// Encodes the return of an adjustment by a variant.
    ///
    /// # Errors
    /// What the encoder says.
    fn encode_return(&self, variant: &str, returned: &TrialReturn<'_>) -> Result<(), String>;

    /// Checks that every file to come has a name of its own, if the files of these series are made by these variants.
    /// Blocks.
    ///
    /// # Errors
    /// Which two have the same one.
    fn names(&self, made_by: &[(&str, &str)]) -> Result<(), String>;
}

/// An adjustment that a RAP file is to return.
pub struct TrialReturn<'a> {
    /// The adjusting row.
    pub adjustment: &'a Row<'a>,
    /// The original.
    pub original: &'a Row<'a>,
    /// The fields with which the TAP file lists it.
    pub listed: &'a Sms<'a>,
    /// What that file is pinned to.
    pub tap_file: &'a ExportPins,
}

/// Encodes nothing: for a replica without schema variants.
struct NoTrial;

impl Trial for NoTrial {
    fn encode(&self, variant: &str, _: &Row<'_>, _: &Sms<'_>) -> Result<(), String> {
        Err(format!("there is no schema variant {variant}"))
    }

    fn encode_return(&self, variant: &str, _: &TrialReturn<'_>) -> Result<(), String> {
        Err(format!("there is no schema variant {variant}"))
    }

    fn names(&self, _: &[(&str, &str)]) -> Result<(), String> {
        Ok(())
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self { variants: Vec::new(), series: Vec::new(), trial: Box::new(NoTrial) }
    }
}

impl Schemas {
    /// The regulator's series: the one that gets the variant in force.
    fn following(&self) -> Option<&SeriesSettings> {
        self.series.iter().find(|series| series.follows_activation)
    }

    /// Name of the regulator's series.
    pub fn regulator(&self) -> Option<&str> {
        self.following().map(|series| series.name.as_str())
    }

    /// The variant in force as long as none was activated.
    pub fn configured(&self) -> &str {
        self.following().map_or("", |series| &series.variant)
    }

    /// The variant in force.
    pub fn active<'a>(&'a self, state: &'a LedgerState) -> &'a str {
        variant_in_force(state).unwrap_or_else(|| self.configured())
    }

    /// The series of this name.
    pub fn series(&self, name: &str) -> Option<&SeriesSettings> {
        self.series.iter().find(|series| series.name == name)
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&SchemaVariant> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// Refuses a variant by which files of the regulator's series would have the names of others. Blocks.
    ///
    /// # Errors
    /// Which two have the same one.
    pub fn told_apart_with(&self, active: &str) -> Result<(), String> {
        let mut made_by = Vec::with_capacity(self.series.len());
        for series in &self.series {
            let variant = if series.follows_activation { active } else { &series.variant };
            made_by.push((series.name.as_str(), variant));
        }
        self.trial.names(&made_by)
    }
}
