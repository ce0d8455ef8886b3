//! The tag of an image in a `kustomization.yaml`, as `images` sets it. Pure.
//!
//! People write the file too, so nothing but the tag is touched: comments, order and quotes stay. What the lines seem to say is
//! held against what a parser reads, before and after.

use events::ImageReference;
use serde::Deserialize;

/// A kustomization, as far as it sets images (kustomize's `types.Image`).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Kustomization {
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    /// What manifests call it.
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

impl Image {
    /// Whether it is of a repository once it is set.
    fn is_of(&self, repository: &ImageReference) -> bool {
        let name = self.new_name.as_ref().unwrap_or(&self.name);
        name.parse::<ImageReference>().is_ok_and(|name| name.same_repository(repository))
    }
}

/// The tag that the file sets for a repository.
///
/// # Errors
/// It is no kustomization, or sets no tag for it, or a digest.
pub(crate) fn tag(text: &str, repository: &ImageReference) -> Result<String, String> {
    let images = parse(text)?;
    Ok(find(&images, repository)?.1.to_owned())
}

/// The file with another tag for a repository.
///
/// # Errors
/// As for [`tag`]; or it is written in a way that cannot be changed without touching more than the tag.
pub(crate) fn with_tag(
    text: &str,
    repository: &ImageReference,
    tag: &str,
) -> Result<String, String> {
    let mut images = parse(text)?;
    let (index, _) = find(&images, repository)?;
    images[index].new_tag = Some(tag.to_owned());
    let changed =
        replaced(text, index, tag).filter(|changed| parse(changed).as_ref() == Ok(&images));
    changed.ok_or_else(|| "its `images` are not written as a list with one key a line".to_owned())
}

fn parse(text: &str) -> Result<Vec<Image>, String> {
    let parsed: Result<Kustomization, _> = serde_saphyr::from_str(text);
    parsed.map(|kustomization| kustomization.images).map_err(|error| {
        let error = error.to_string();
        error.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

fn find<'a>(images: &'a [Image], repository: &ImageReference) -> Result<(usize, &'a str), String> {
    let name = repository.name();
    let mut found = images.iter().enumerate().filter(|(_, image)| image.is_of(repository));
    let Some((index, image)) = found.next() else {
        return Err(format!("its `images` do not name {name}"));
    };
    if found.next().is_some() {
        return Err(format!("its `images` name {name} twice"));
    }
    if image.digest.is_some() {
        return Err(format!(
            "its `images` set a digest for {name}, which would count, and not the tag"
        ));
    }
    let tag = image
        .new_tag
        .as_deref()
        .ok_or_else(|| format!("its `images` set no `newTag` for {name}"))?;
    Ok((index, tag))
}

/// The text with another value for `newTag` in the item of that number below `images`.
fn replaced(text: &str, index: usize, tag: &str) -> Option<String> {
    let (mut in_images, mut indent, mut item) = (false, None, None);
    let mut done = false;
    let mut changed = String::with_capacity(text.len() + tag.len());
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        let width = line.len() - rest.len();
        let is_item = rest == "-\n" || rest.starts_with("- ");
        if rest.starts_with('#') || rest.trim_end().is_empty() {
            changed.push_str(line);
            continue;
        }
        if width == 0 && !is_item {
            in_images = rest.starts_with("images:");
        } else if in_images && is_item && *indent.get_or_insert(width) == width {
            item = Some(item.map_or(0, |item: usize| item + 1));
        }
        let key = rest.strip_prefix("- ").unwrap_or(rest).trim_start();
        match key.strip_prefix("newTag:") {
            Some(value) if in_images && item == Some(index) && !done => {
                changed.push_str(&line[..line.len() - value.len()]);
                changed.push_str(&with_value(value, tag));
                done = true;
            }
            _ => changed.push_str(line),
        }
    }
    done.then_some(changed)
}

/// What follows a key, with another value: a comment and the line's end stay.
fn with_value(rest: &str, value: &str) -> String {
    let end = rest.find(" #").unwrap_or_else(|| rest.trim_end().len());
    let quote =
        rest.trim_start().chars().next().filter(|c| matches!(c, '"' | '\'')).map(String::from);
    let quote = quote.unwrap_or_default();
    format!(" {quote}{value}{quote}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# What is deployed.
kind: Kustomization
resources: [a.yaml]

images:
  # the gateway
  - name: mastereflex123/portfolio
    newTag: v1-0000000 # since Monday
  - newTag: "v2-abc1234"
    name: worker
    newName: docker.io/mastereflex123/portfolio-contact-worker

configMapGenerator:
  - name: bus
    literals: [newTag=no]
"#;

    fn repository(name: &str) -> ImageReference {
        name.parse().unwrap()
    }

    #[test]
    fn a_tag_is_found_and_set_and_all_else_stays() {
        let gateway = repository("docker.io/mastereflex123/portfolio");
        let worker = repository("mastereflex123/portfolio-contact-worker");
        assert_eq!(tag(FILE, &gateway).as_deref(), Ok("v1-0000000"));
        assert_eq!(tag(FILE, &worker).as_deref(), Ok("v2-abc1234"));
        let set = with_tag(FILE, &gateway, "v3-def5678").unwrap();
        assert_eq!(set, FILE.replace("v1-0000000", "v3-def5678"));
        let set = with_tag(&set, &worker, "v3-def5678").unwrap();
        assert_eq!(
            set,
            FILE.replace("v1-0000000", "v3-def5678").replace("v2-abc1234", "v3-def5678")
        );
        assert_eq!(tag(&set, &worker).as_deref(), Ok("v3-def5678"));
        // A number is a tag only in quotes.
        assert_eq!(
            with_tag(FILE, &worker, "42").map(|text| text.contains("newTag: \"42\"")),
            Ok(true)
        );
    }

    #[test]
    fn other_ways_to_write_it() {
        let image = repository("x/y");
        for (text, expected) in [
            (
                "images:\n- name: x/y\n  newTag: v1\nkind: K\n",
                "images:\n- name: x/y\n  newTag: v2\nkind: K\n",
            ),
            ("images:\n-\n  name: x/y\n  newTag: 'v1'", "images:\n-\n  name: x/y\n  newTag: 'v2'"),
            (
                "images:\n- name: x/y\r\n  newTag: v1\r\n",
                "images:\n- name: x/y\r\n  newTag: v2\r\n",
            ),
            (
                "images:\n- {name: a, newTag: v9}\n- name: x/y\n  newTag: v1\n",
                "images:\n- {name: a, newTag: v9}\n- name: x/y\n  newTag: v2\n",
            ),
        ] {
            assert_eq!(with_tag(text, &image, "v2").as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_and_says_why() {
        let image = repository("x/y");
        for (text, expected) in [
            ("", "do not name docker.io/x/y"),
            ("kind: Kustomization\n", "do not name docker.io/x/y"),
            ("images: [", "line"),
            ("images:\n- name: x/y\n", "set no `newTag` for docker.io/x/y"),
            ("images:\n- name: x/y\n  newTag: v1\n  digest: sha256:0\n", "set a digest"),
            (
                "images:\n- name: x/y\n  newTag: v1\n- name: a\n  newName: x/y\n  newTag: v1\n",
                "twice",
            ),
            ("images: [{name: x/y, newTag: v1}]\n", "not written as a list with one key a line"),
            ("images:\n- {name: x/y, newTag: v1}\n", "not written as a list with one key a line"),
            (
                "images:\n- name: x/y\n  newTag:\n    v1\n",
                "not written as a list with one key a line",
            ),
            (
                "images:\n- name: x/y\n  newTag: &t v1\n- name: a\n  newTag: *t\n",
                "not written as a list with one key a line",
            ),
        ] {
            let error = with_tag(text, &image, "v2").unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_the_tag_is_ever_changed(lines in proptest::collection::vec("(- |  |)(name|newTag|images|a): ?(x/y|v1|\"v1\"|)", 0..12)) {
            let text = lines.join("\n");
            let image = repository("x/y");
            if let Ok(changed) = with_tag(&text, &image, "v2-abcd") {
                let read = tag(&changed, &image);
                proptest::prop_assert_eq!(read.as_deref(), Ok("v2-abcd"));
                let differs = text.split('\n').zip(changed.split('\n')).filter(|(a, b)| a != b).count();
                proptest::prop_assert!(differs <= 1 && text.split('\n').count() == changed.split('\n').count());
            }
        }
    }
}
