//! Makes Rust of the Protocol Buffers files in `config/proto`: a client for the library, servers for its tests.
//!
//! `protox` compiles them in this process, so that no `protoc` has to be installed.

use std::path::{Path, PathBuf};

/// Where imports are looked for.
const ROOT: &str = "config/proto";

/// Files that are compiled, below [`ROOT`].
const FILES: &[&str] = &["cdr/pricing/v1/pricing.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES.iter().map(|file| Path::new(ROOT).join(file)), [ROOT])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this by cargo")?);
    for (folder, client) in [("client", true), ("server", false)] {
        let folder = out.join(folder);
        std::fs::create_dir_all(&folder)?;
        tonic_prost_build::configure()
            .build_client(client)
            .build_server(!client)
            .build_transport(false)
            .out_dir(folder)
            .compile_fds(descriptors.clone())?;
    }
    Ok(())
}
