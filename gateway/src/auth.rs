//! Who may: bearer tokens, of which only the hashes are known here, and secrets that sign, each with a role.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use service::shutdown::Shutdown;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    problem::Problem,
    webhook::{self, Signed},
};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// To post builds and to ask for them.
    Ci,
    /// To ask for builds, and to decide about targets.
    Operator,
}

/// Whose token it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Caller {
    /// Lets the caller pass if it has one of the roles.
    pub(crate) fn with_role(self, roles: &[Role]) -> Result<Self, Problem> {
        if roles.contains(&self.role) {
            Ok(self)
        } else {
            Err(Problem::new(StatusCode::FORBIDDEN, "the token's role does not allow this"))
        }
    }
}

/// Nobody knows who it is.
pub(crate) fn challenge(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).with_header(header::WWW_AUTHENTICATE, "Bearer")
}

/// The known tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens(Vec<Token>);

#[derive(Clone, PartialEq, Eq)]
struct Token {
    caller: Caller,
    proof: Proof,
}

/// What shows that a request is of a token's owner.
#[derive(Clone, PartialEq, Eq)]
enum Proof {
    /// The token itself comes along; this is its hash.
    Token { sha256: [u8; 32] },
    /// It is signed with this secret.
    Signature { secret: Vec<u8> },
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.caller.fmt(f)
    }
}

/// `TOKENS_FILE` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: Role,
    sha256: Option<String>,
    webhook_secret: Option<SecretString>,
}

impl Tokens {
    /// Reads `TOKENS_FILE`. The error names the file and what is wrong in it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File =
            serde_saphyr::from_str(text).map_err(|error| first_line(&error.to_string()))?;
        let mut tokens = Vec::with_capacity(file.tokens.len());
        for entry in file.tokens {
            let name = entry.name;
            let proof = match (entry.sha256, entry.webhook_secret) {
                (Some(sha256), None) => Proof::Token {
                    sha256: hash(&sha256).map_err(|why| format!("token {name}: {why}"))?,
                },
                (None, Some(secret)) => match webhook::secret(secret.expose_secret()) {
                    Some(secret) => Proof::Signature { secret },
                    None => {
                        return Err(format!(
                            "token {name}: webhook_secret is not whsec_ and 24 to 64 bytes in base64"
                        ));
                    }
                },
                _ => {
                    return Err(format!(
                        "token {name}: either sha256 or webhook_secret is required"
                    ));
                }
            };
            tokens.push(Token { caller: Caller { name, role: entry.role }, proof });
        }
        Ok(Self(tokens))
    }

    /// Whose token it is. Takes the same time whichever it is.
    fn caller(&self, token: &str) -> Option<&Caller> {
        let found: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut caller = None;
        for known in &self.0 {
            if let Proof::Token { sha256 } = &known.proof
                && bool::from(sha256.ct_eq(&found))
            {
                caller = Some(&known.caller);
            }
        }
        caller
    }

    /// Who signed it.
    fn signer(&self, signed: &Signed<'_>, body: &[u8]) -> Option<&Caller> {
        let is_by = |known: &&Token| matches!(&known.proof, Proof::Signature { secret } if signed.is_by(secret, body));
        self.0.iter().find(is_by).map(|known| &known.caller)
    }
}

/// Reads the hash of a token.
fn hash(text: &str) -> Result<[u8; 32], &'static str> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(text, &mut sha256).map_err(
        |_| "sha256 is not 64 hexadecimal digits; `printf %s TOKEN | sha256sum` makes them",
    )?;
    Ok(sha256)
}

/// What a library says over several lines, in one.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The tokens of now, which a change of the file replaces. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Auth(Arc<RwLock<Tokens>>);

impl Auth {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self(Arc::new(RwLock::new(tokens)))
    }

    /// Lets the request pass if it has a token with one of the roles.
    pub(crate) fn authorize(&self, headers: &HeaderMap, roles: &[Role]) -> Result<Caller, Problem> {
        let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
            challenge("a token is required: send it as `Authorization: Bearer TOKEN`")
        })?;
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            challenge("the Authorization header is not of the form `Bearer TOKEN`")
        })?;
        self.of_token(token).ok_or_else(|| challenge("the token is not known"))?.with_role(roles)
    }

    /// Lets a signed request pass, if its signer has one of the roles.
    pub(crate) fn authorize_signed(
        &self,
        signed: &Signed<'_>,
        body: &[u8],
        roles: &[Role],
    ) -> Result<Caller, Problem> {
        let caller = self.tokens().signer(signed, body).cloned();
        caller.ok_or_else(|| challenge("the signature is by no known secret"))?.with_role(roles)
    }

    /// Whose token it is, if it is one.
    pub(crate) fn of_token(&self, token: &str) -> Option<Caller> {
        self.tokens().caller(token).cloned()
    }

    fn tokens(&self) -> RwLockReadGuard<'_, Tokens> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again when it has changed, until the shutdown begins. What cannot be read changes nothing.
    ///
    /// The content is compared rather than a time stamp: Kubernetes replaces the files of a Secret by links.
    pub(crate) async fn watch(self, path: PathBuf, shutdown: Shutdown) {
        let mut every = interval(Duration::from_secs(2));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained = None;
        loop {
            if shutdown.unless_begun(every.tick()).await.is_none() {
                return;
            }
            match Tokens::read(&path) {
                Ok(tokens) => {
                    complained = None;
                    let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
                    if *known != tokens {
                        tracing::info!(tokens = tokens.0.len(), "tokens were read again");
                        *known = tokens;
                    }
                }
                Err(error) => {
                    if complained.as_ref() != Some(&error) {
                        tracing::error!("the tokens stay as they were: {error}");
                        complained = Some(error);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sha256 of "secret"
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn auth() -> Auth {
        Auth::new(
            Tokens::parse(&format!("tokens:\n  - {{ name: jenkins, role: ci, sha256: {HASH} }}\n"))
                .unwrap(),
        )
    }

    fn status(value: Option<&str>, roles: &[Role]) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        auth().authorize(&headers, roles).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn only_a_known_token_of_the_right_role_passes() {
        for (value, roles, expected) in [
            (None, &[Role::Ci][..], 401),
            (Some("Bearer wrong"), &[Role::Ci], 401),
            (Some("Bearer"), &[Role::Ci], 401),
            (Some("Basic secret"), &[Role::Ci], 401),
            (Some("Bearer secret"), &[Role::Ci], 200),
            (Some("bearer secret"), &[Role::Operator, Role::Ci], 200),
            (Some("Bearer secret"), &[Role::Operator], 403),
        ] {
            assert_eq!(status(value, roles), expected, "{value:?} for {roles:?}");
        }
    }

    #[test]
    fn a_wrong_file_is_named_in_one_line() {
        for (text, expected) in [
            (
                "tokens:\n  - { name: a, role: ci, sha256: abc }",
                "token a: sha256 is not 64 hexadecimal digits",
            ),
            ("tokens:\n  - { name: a, role: root, sha256: abc }", "root"),
            ("tokens:\n  - { name: a, rolle: ci }", "rolle"),
            (
                "tokens:\n  - { name: a, role: ci }",
                "token a: either sha256 or webhook_secret is required",
            ),
            (
                "tokens:\n  - { name: a, role: ci, webhook_secret: hunter2 }",
                "token a: webhook_secret is not whsec_",
            ),
            ("tokens: [", "line"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
