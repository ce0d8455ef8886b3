//! What the files that images are built and named by have to agree on. `ci/check-images` checks the images themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use events::ImageReference;
use testbed::workspace_folder;

fn read(path: &str) -> String {
    fs::read_to_string(workspace_folder().join(path)).unwrap()
}

/// All files in a folder, and in the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The text between quotes that follows a word.
fn quoted<'a>(text: &'a str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(after).unwrap();
    rest.split('"').nth(1).unwrap()
}

#[test]
fn nothing_is_built_from_or_deployed_as_latest() {
    let root = workspace_folder();
    let folders = ["ci", "compose", "k8s", "monitoring", "nats"].map(|folder| root.join(folder));
    let alone = ["Dockerfile", "Jenkinsfile", "compose.yaml"].map(|file| root.join(file));
    let all = folders.iter().filter(|folder| folder.exists()).flat_map(|folder| files(folder));
    let mut looked_at = 0;
    for path in all.chain(alone.into_iter().filter(|file| file.exists())) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for line in text.lines() {
            assert!(
                !line.contains(":latest") && !line.contains("newTag: latest"),
                "{}: {line}",
                path.display()
            );
        }
        looked_at += 1;
    }
    assert!(looked_at > 10, "only {looked_at} files");
}

#[test]
fn images_of_others_are_named_with_a_version() {
    for line in read("compose.yaml").lines() {
        let Some(image) = line.trim().strip_prefix("image: ") else { continue };
        let image = image.replace("${BUILD_VERSION:-v0-0000000}", "v0-0000000");
        let reference: ImageReference = image.parse().unwrap();
        assert_eq!(reference.registry(), "docker.io", "{image}");
        let tag = reference.tag().unwrap();
        assert!(
            tag.contains('.') || tag == "v0-0000000",
            "{image}: a whole version, such as 1.2.3"
        );
    }
}

#[test]
fn images_are_built_with_the_toolchain_of_everything_else() {
    let toolchain = read("rust-toolchain.toml");
    let channel = quoted(&toolchain, "channel");
    let dockerfile = read("Dockerfile");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_IMAGE=")).unwrap();
    let reference: ImageReference = image.parse().unwrap();
    assert!(
        reference.tag().unwrap().starts_with(&format!("{channel}-")),
        "{image} is not Rust {channel}"
    );
    assert!(reference.digest().is_some(), "{image} is not pinned");
}

#[test]
fn the_build_gets_every_member_of_the_workspace() {
    let ignore = read(".dockerignore");
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("members = [").unwrap();
    let (members, _) = rest.split_once(']').unwrap();
    for member in members.split(',') {
        let folder = member.trim().trim_matches('"').trim_end_matches("/*");
        assert!(
            ignore.lines().any(|line| line == format!("!{folder}")),
            ".dockerignore leaves out {folder}"
        );
    }
}
