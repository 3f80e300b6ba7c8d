//! Finds the first line that fits without reading every line of a long price list.

use cdr_core::Uuid;
use cdr_core::tariff::{PriceQuery, TariffTable};
use std::collections::HashMap;

/// Up to this many lines, reading them in order is as fast as looking them up.
const SHORT: usize = 16;

/// Lines by tenant; none for lines that are for every tenant. Ascending.
type ByTenant = HashMap<Option<Uuid>, Vec<usize>>;

/// Lines of a long table by their conditions; empty for a short one.
#[derive(Clone, Debug, Default)]
pub(super) struct LineIndex {
    is_short: bool,
    by_operator: HashMap<String, ByTenant>,
    any_operator: ByTenant,
}

impl LineIndex {
    pub(super) fn new(table: &TariffTable) -> Self {
        let mut index = Self { is_short: table.tariffs.len() <= SHORT, ..Self::default() };
        if index.is_short {
            return index;
        }
        for (line, tariff) in table.tariffs.iter().enumerate() {
            let by_tenant = match &tariff.operator_id {
                Some(operator) => index.by_operator.entry(operator.clone()).or_default(),
                None => &mut index.any_operator,
            };
            by_tenant.entry(tariff.tenant_id).or_default().push(line);
        }
        index
    }

    /// The first line of `table`, for which this index was made, that fits.
    pub(super) fn first_fit(&self, table: &TariffTable, query: &PriceQuery<'_>) -> Option<usize> {
        let fits = |line: &usize| table.tariffs[*line].fits(query);
        if self.is_short {
            return (0..table.tariffs.len()).find(fits);
        }
        let first = |lines: &ByTenant, tenant| lines.get(&tenant)?.iter().copied().find(fits);
        let operator = self.by_operator.get(query.operator_id);
        let lists = operator.into_iter().chain([&self.any_operator]);
        let of_tenant = |lines| query.tenant_id.and_then(|tenant| first(lines, Some(tenant)));
        lists.flat_map(|lines| [of_tenant(lines), first(lines, None)]).flatten().min()
    }
}
