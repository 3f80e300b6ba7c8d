//! Settlement files, quarantine and schema variants.

pub(super) mod delivery_log;
pub(super) mod export_acts;
pub(super) mod export_files;
pub(super) mod export_view;
pub(super) mod exports;
pub(super) mod quarantine;
pub(super) mod reconciliation;
pub(super) mod schemas;
