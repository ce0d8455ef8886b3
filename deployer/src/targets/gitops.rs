//! The strategy `gitops`: the image is committed to a branch, and `ArgoCD` sets it.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::text;

/// A branch that `ArgoCD` follows, and the file in it that sets the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gitops {
    /// The repository: by SSH, or a folder of this machine.
    #[serde(deserialize_with = "repository")]
    pub(crate) repository: String,
    /// The branch.
    #[serde(deserialize_with = "branch")]
    pub(crate) branch: String,
    /// The `kustomization.yaml` whose `images` are set.
    #[serde(deserialize_with = "path_within")]
    pub(crate) file: String,
    /// The file with the private key that may push: what GitHub calls a deploy key.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
    /// The file with the keys by which the host is known, in the form of OpenSSH.
    #[serde(default)]
    pub(crate) known_hosts_file: Option<PathBuf>,
}

impl Gitops {
    /// Whether it can be done.
    ///
    /// # Errors
    /// Something that it needs is missing.
    pub(super) fn check(&self, has_argocd: bool) -> Result<(), String> {
        if !has_argocd {
            return Err(
                "a target with gitops needs argocd, which deploys what is committed".to_owned()
            );
        }
        let by_ssh = !self.repository.starts_with("file://");
        if by_ssh && (self.key_file.is_none() || self.known_hosts_file.is_none()) {
            return Err(format!(
                "{} is reached by SSH, which needs key_file and known_hosts_file",
                self.repository
            ));
        }
        Ok(())
    }
}

fn repository<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let repository =
        text(deserializer, is_plain, "a repository such as git@github.com:owner/name.git")?;
    // Not shown, as it may be right all the same.
    let user =
        repository.split_once("://").map_or(repository.as_str(), |(_, rest)| rest).rsplit_once('@');
    if user.is_some_and(|(user, _)| user.contains(':')) {
        return Err(D::Error::custom("a repository is named without a password"));
    }
    if !is_repository(&repository) {
        let repository = repository.escape_debug();
        return Err(D::Error::custom(format!(
            "'{repository}' is not a repository such as git@github.com:owner/name.git"
        )));
    }
    Ok(repository)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// `ssh://`, `file://`, or `user@host:path`. Nothing that a program could take for an option of its own.
fn is_repository(text: &str) -> bool {
    let scp = || {
        text.split_once(':')
            .map(|(host, _)| host)
            .filter(|host| !host.contains('/') && !text.contains("::"))
    };
    let rest = text.strip_prefix("ssh://").or_else(|| text.strip_prefix("file://"));
    let host = rest.or_else(|| scp().filter(|_| !text.contains("://"))).unwrap_or_default();
    let bare = host.rsplit_once('@').map_or(host, |(_, host)| host);
    !bare.is_empty() && !bare.starts_with('-') && !host.starts_with('-')
}

/// A branch, by those rules of `git check-ref-format` that anybody needs.
fn branch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, is_branch, "a branch such as gitops-staging")
}

fn is_branch(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.to_ascii_lowercase().ends_with(".lock")
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    text.bytes().all(allowed)
        && text.split('/').all(part)
        && !(text.contains("..") || text.ends_with('.') || text.starts_with('-'))
}

fn path_within<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, is_within, "a path within the repository such as k8s/kustomization.yaml")
}

fn is_within(text: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | ".." | ".git");
    text.split('/').all(part) && text.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

#[cfg(test)]
mod tests {
    use crate::targets::parse;

    const TARGETS: &str = r"
targets:
  - name: portfolio
    image: mastereflex123/portfolio
    namespace: oriyan-portfolio
    deployment: oriyan-portfolio-app
    container: app
    argocd: { application: portfolio-app, namespace: argocd, timeout: 5m }
    gitops:
      repository: git@github.com:mastereflex123/portfolio.git
      branch: gitops-staging
      file: k8s/kustomization.yaml
      key_file: /etc/portfolio/gitops/ssh-privatekey
      known_hosts_file: /etc/portfolio/gitops/known_hosts
";

    #[test]
    fn repositories_that_can_be_pushed_to_are_taken() {
        for repository in [
            "git@github.com:mastereflex123/portfolio.git",
            "github.com:portfolio.git",
            "ssh://git@git.example.org:2222/portfolio.git",
            "file:///srv/git/portfolio",
        ] {
            let text = TARGETS.replace("git@github.com:mastereflex123/portfolio.git", repository);
            assert_eq!(parse(&text).unwrap()[0].gitops.as_ref().unwrap().repository, repository);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, expected) in [
            (
                "git@github.com:mastereflex123/portfolio.git",
                "https://github.com/x/y",
                "'https://github.com/x/y' is not a repository",
            ),
            ("git@github.com:mastereflex123/portfolio.git", "ext::sh", "is not a repository"),
            (
                "git@github.com:mastereflex123/portfolio.git",
                "ssh://-oProxyCommand=x/y",
                "is not a repository",
            ),
            (
                "git@github.com:mastereflex123/portfolio.git",
                "-oProxyCommand=x:y",
                "is not a repository",
            ),
            (
                "git@github.com:mastereflex123/portfolio.git",
                "ssh://a:secret@github.com/y",
                "named without a password",
            ),
            (
                "git@github.com:mastereflex123/portfolio.git",
                "https://a:secret@github.com/y",
                "named without a password",
            ),
            ("gitops-staging", "a..b", "'a..b' is not a branch"),
            ("gitops-staging", "--force", "is not a branch"),
            ("gitops-staging", "a:b", "is not a branch"),
            ("k8s/kustomization.yaml", "../k8s", "is not a path within the repository"),
            ("k8s/kustomization.yaml", "/etc/passwd", "is not a path within the repository"),
            (
                "      key_file: /etc/portfolio/gitops/ssh-privatekey\n",
                "",
                "needs key_file and known_hosts_file",
            ),
            (
                "    argocd: { application: portfolio-app, namespace: argocd, timeout: 5m }\n",
                "",
                "line 3 column 5: a target with gitops needs argocd",
            ),
            ("      branch: gitops-staging\n", "", "branch"),
            ("      branch:", "      colour: red\n      branch:", "colour"),
        ] {
            let error = parse(&TARGETS.replace(from, to)).unwrap_err();
            assert!(
                error.contains(expected) && !error.contains('\n') && !error.contains("secret"),
                "{to}: {error}"
            );
        }
    }
}
