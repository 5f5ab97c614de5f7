//! Puts the files of Swagger UI that `/docs` needs into the binary, compressed. They come from a package; nothing is downloaded.

use std::error::Error;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipArchive;

const FILES: [&str; 7] = [
    "index.html",
    "swagger-ui.css",
    "index.css",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "favicon-32x32.png",
    "favicon-16x16.png",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/build.rs");
    let out = std::env::var("OUT_DIR")?;
    let mut package = ZipArchive::new(Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED))?;
    for index in 0..package.len() {
        let mut file = package.by_index(index)?;
        let path = file.enclosed_name().ok_or("a file of the package has a path that leads out of it")?;
        let name = FILES
            .into_iter()
            .find(|name| path.components().count() == 3 && path.ends_with(Path::new("dist").join(name)));
        let Some(name) = name else { continue };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
        compressed.write_all(&bytes)?;
        fs::write(Path::new(&out).join(format!("{name}.gz")), compressed.finish()?)?;
    }
    Ok(())
}
