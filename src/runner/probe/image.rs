//! An image that contains nothing but the probe, written without an engine.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::program;

/// An image with the program alone, as an archive of `docker save`. The same program gives the same bytes.
///
/// # Errors
/// If this highwater was built without a probe.
pub fn image(name: &str) -> Result<Vec<u8>, &'static str> {
    let layer = files(&[("probe", 0o755, program()?)])?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        // A number, which Kubernetes can tell from root's.
        "config": {"User": "65534:65534", "Entrypoint": ["/probe"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        "history": [{"created_by": "highwater probe-image"}],
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    files(&[
        (&config_name, 0o644, config.as_bytes()),
        ("layer.tar", 0o644, &layer),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive of these files, of no time and of root.
fn files(files: &[(&str, u32, &[u8])]) -> Result<Vec<u8>, &'static str> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        // Writing to memory cannot fail, and the paths are short.
        archive.append_data(&mut header, path, *content).map_err(|_| "its archive could not be written")?;
    }
    archive.into_inner().map_err(|_| "its archive could not be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_each_time_and_names_its_layer_by_digest() {
        let bytes = image("highwater-probe:1").unwrap();
        assert!(bytes == image("highwater-probe:1").unwrap());
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["highwater-probe:1"]));
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&files["layer.tar"])));
    }
}
