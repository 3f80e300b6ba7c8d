//! The price of a receipt, on one core: `cargo bench --bench pricing`.
//!
//! Prints nanoseconds a price: from a table, line by line; from a book that is kept for a batch, as ingest does; from a
//! book that is asked for each time; and from one that another thread replaces all the while. A short price list has 4
//! lines, a long one 10,000, most of them for one tenant each.

use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::tariff::{Tariff, TariffTable};
use cdr_core::{Millis, Money, Uuid};
use cdr_mediation::pricing::{Price, PriceBook, PriceQuery, Pricing, TablePricing};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

const OPERATORS: [&str; 4] = ["AWCC", "ROSHAN", "MTN_AF", "ETS"];

fn main() -> anyhow::Result<()> {
    println!("{:<44} {:>12} {:>12}", "ns a price", "4 lines", "10,000 lines");
    let (short, long) = (table(0), table(9_996));
    let borrowed = |table: &TariffTable| measure(|query| table.price(query).map(|p| p.amount));
    show("table, line by line", borrowed(&short), borrowed(&long));
    let (short, long) = (TablePricing::new(vec![short])?, TablePricing::new(vec![long])?);
    let kept = |book: &PriceBook| measure(|query| book.quote(query).map(|quote| quote.priced.amount));
    let fixed = |pricing: &dyn Pricing| measure(|query| pricing.price(query).as_ref().map(Price::amount));
    show("book kept for a batch", kept(&short.book()), kept(&long.book()));
    show("book asked for each time", fixed(&short), fixed(&long));
    show("book that another thread replaces", replaced(&short), replaced(&long));
    Ok(())
}

fn show(name: &str, short: f64, long: f64) {
    println!("{name:<44} {short:>12.1} {long:>12.1}");
}

/// A list of one line for everything behind lines for three operators, and those of so many tenants before them.
fn table(tenants: u32) -> TariffTable {
    let line = |operator: Option<&str>, tenant_id| Tariff {
        operator_id: operator.map(str::to_owned),
        tenant_id,
        charge_type: Some(ChargeType::A2p),
        direction: None,
        per_segment: Money::from_micros(384_000).unwrap_or_default(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A042".to_owned(),
        billing_indicator: BillingIndicator::Chargeable,
    };
    let mut tariffs: Vec<Tariff> = (0..tenants).map(|i| line(None, Some(tenant(i)))).collect();
    tariffs.extend(OPERATORS[..3].iter().map(|operator| line(Some(operator), None)));
    tariffs.push(line(None, None));
    TariffTable { version: "bench-1".to_owned(), valid_from: Millis(0), valid_to: None, tariffs }
}

fn tenant(i: u32) -> Uuid {
    Uuid((u128::from(i) + 1).to_be_bytes())
}

/// Nanoseconds that `price` takes for queries of every operator, tenants with and without a line of their own.
fn measure(mut price: impl FnMut(&PriceQuery<'_>) -> Option<Money>) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (began, prices) = (Instant::now(), 20_000u32);
        for i in 0..prices {
            let query = PriceQuery {
                operator_id: OPERATORS[i as usize % OPERATORS.len()],
                tenant_id: Some(tenant(i.wrapping_mul(7_919) % 20_000)),
                charge_type: ChargeType::A2p,
                direction: Direction::Mt,
                segment_count: (i % 3) as u8 + 1,
                event_at: Millis(1_776_690_000_000),
            };
            black_box(price(black_box(&query)));
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(prices));
    }
    best
}

/// As the prices of the billing service are held: behind a lock that is held only to take a reference.
fn replaced(pricing: &dyn Pricing) -> f64 {
    let shared: RwLock<Arc<PriceBook>> = RwLock::new(pricing.book());
    let load = || shared.read().unwrap_or_else(PoisonError::into_inner).clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let book = Arc::new((*load()).clone());
                *shared.write().unwrap_or_else(PoisonError::into_inner) = book;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let took = measure(|query| load().price(query).as_ref().map(Price::amount));
        done.store(true, Ordering::Relaxed);
        took
    })
}
