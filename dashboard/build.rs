//! The pages are built by scripts/dashboard into target/dashboard/web; without them (a lint, an editor) the binary is built all the same.
fn main() {
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/dashboard/web");
    std::fs::create_dir_all(pages).expect("a directory for the pages");
    println!("cargo:rerun-if-changed={pages}");
}
