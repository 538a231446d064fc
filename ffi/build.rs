//! Keeps the shared library to its own calls.

fn main() {
    // `rustc` exports what any crate below marks with `#[no_mangle]`: with object storage that is the C interface of a
    // crate for checksums. Symbols of archives stay inside; those of this crate are in no archive.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
