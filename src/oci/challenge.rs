//! [`Challenge`]: what a registry's 401 asks for (`WWW-Authenticate`, RFC 9110, section 11.6.1).

/// How a registry wants to be told who asks.
///
/// ```
/// use lxd_image::oci::Challenge;
///
/// let found = Challenge::parse("Bearer realm=\"https://auth.example/token\",service=\"reg.example\"");
/// assert!(matches!(&found[..], [Challenge::Bearer { realm, .. }] if realm == "https://auth.example/token"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Challenge {
    /// User and password with each request (RFC 7617).
    Basic,
    /// A token, which the server at `realm` gives out.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the token must allow, separated by blanks.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge of all headers of a response: a token if there is a choice, since it tells the password to fewer
    /// servers.
    #[must_use]
    pub fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> = headers.into_iter().flat_map(Self::parse).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }

    /// Parses a header, which may hold several challenges. Unknown schemes are left out.
    #[must_use]
    pub fn parse(header: &str) -> Vec<Self> {
        parse(header)
    }
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '\t']).unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(end);
        let (parameters, next) = parameters(after);
        // Always shorter than before, so that this ends.
        rest = next;
        let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            found.push(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
        }
    }
    found
}

/// The parameters of one challenge, and what follows them: the next challenge.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let name =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(rest.len());
        let after = rest.get(name..).unwrap_or_default().trim_start();
        let Some(value) = after.strip_prefix('=') else { return (found, rest) };
        let key = rest.get(..name).unwrap_or_default().to_ascii_lowercase();
        let value = value.trim_start();
        let (text, next) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                let (text, next) = value.split_at(end);
                (text.to_owned(), next)
            }
        };
        found.push((key, text));
        rest = next;
    }
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (out, text.get(at + 1..).unwrap_or_default()),
            '\\' => out.extend(characters.next().map(|(_, escaped)| escaped)),
            other => out.push(other),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn challenges_of_registries_are_read() {
        for (header, expected) in [
            ("Basic realm=\"Registry Realm\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (
                "Negotiate, Bearer realm = https://a/t , error=\"insufficient_scope\", Basic realm=\"a \\\"b\\\"\"",
                vec![bearer("https://a/t", None, None), Challenge::Basic],
            ),
            ("Bearer service=\"x\"", vec![]),
            ("Digest realm=\"x\", nonce=\"y\"", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn broken_challenges_end() {
        for header in ["=", "\"", "Bearer realm=\"x", "Bearer =,=,=", ",,,", "Basic =\"\\", "a=b", "Bearer realm=\"\\"]
        {
            // Whatever is read of it, reading comes to an end.
            let _ = parse(header);
        }
    }
}
