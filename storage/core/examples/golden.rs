//! Writes the golden vectors of `tests/golden/` from the independent recomputation, never from the crate itself.
//!
//! `cargo run -p cdr-core --release --example golden`
#![allow(dead_code, missing_docs)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]
#![allow(clippy::assigning_clones, clippy::format_collect, clippy::format_push_string)]

#[path = "../tests/ledger/oracle.rs"]
mod oracle;
#[path = "../tests/ledger/samples.rs"]
mod samples;
#[path = "../tests/ledger/scenarios.rs"]
mod scenarios;
#[path = "../tests/ledger/vectors.rs"]
mod vectors;
#[path = "../tests/ledger/world.rs"]
mod world;

fn main() -> std::io::Result<()> {
    std::fs::create_dir_all(vectors::folder())?;
    for scenario in scenarios::all() {
        scenario.world.check();
        let text = vectors::Vector::of_oracle(&scenario).document(&scenario);
        std::fs::write(vectors::folder().join(format!("{}.json", scenario.name)), &text)?;
        println!("{:<20} {:>9} bytes", scenario.name, text.len());
    }
    let path = vectors::sidecar_file();
    std::fs::create_dir_all(path.parent().expect("a folder"))?;
    std::fs::write(path, vectors::sidecar_document())?;
    Ok(())
}
