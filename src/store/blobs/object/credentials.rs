//! Credentials from the files of the AWS command line, which the client does not read itself.
//!
//! Environment variables, web identities, containers and instances are left to the client. A
//! profile counts if it has keys; one that asks for more (a role to assume, single sign-on, a
//! program to run) is refused with a sentence that says how to get keys from it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::options::ObjectOptions;
use crate::error::{Error, ErrorKind, Result};

/// The longest file that is read, in bytes. Real ones have some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How long keys are used before the files are read again: programs that renew temporary keys write
/// them there.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// The variables of the environment that matter, so that tests need not change the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A profile with keys.
pub(super) struct Profile {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) keys: Option<Arc<ProfileKeys>>,
}

/// The files and the profile that the options and the environment name.
#[derive(Clone)]
struct Source {
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
    profile: String,
    /// Whether somebody named the profile or the file, so that it must be there.
    is_named: bool,
}

impl Source {
    fn new(options: &ObjectOptions, environment: Environment<'_>) -> Self {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let in_home = |name: &str| set("HOME").map(|home| Path::new(&home).join(".aws").join(name));
        let named = options.profile.clone().or_else(|| set("AWS_PROFILE"));
        let file = options.credentials_file.clone();
        Self {
            is_named: named.is_some() || file.is_some(),
            credentials: file
                .or_else(|| set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from))
                .or_else(|| in_home("credentials")),
            config: set("AWS_CONFIG_FILE").map(PathBuf::from).or_else(|| in_home("config")),
            profile: named.unwrap_or_else(|| "default".to_owned()),
        }
    }

    /// The settings of the profile: those of the file of credentials come before those of the configuration.
    fn settings(&self) -> Result<BTreeMap<String, String>> {
        let in_config =
            if self.profile == "default" { self.profile.clone() } else { format!("profile {}", self.profile) };
        let mut settings = BTreeMap::new();
        for (file, section) in [(&self.config, &in_config), (&self.credentials, &self.profile)] {
            if let Some(text) = file.as_deref().map(read).transpose()?.flatten() {
                settings.extend(section_of(&text, section));
            }
        }
        Ok(settings)
    }

    fn keys(&self) -> Result<AwsCredential> {
        keys_in(&self.settings()?).ok_or_else(|| self.without_keys("has no keys"))
    }

    fn without_keys(&self, what: &str) -> Error {
        let error = Error::new(ErrorKind::NotFound, format!("the AWS profile `{}` {what}", self.profile))
            .with_hint("write aws_access_key_id and aws_secret_access_key into it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        match &self.credentials {
            Some(file) => error.in_file(file),
            None => error,
        }
    }
}

impl Profile {
    /// Reads the profile that the options and the environment name. Its keys are left out if those
    /// of the environment come first.
    ///
    /// # Errors
    /// `NotFound` for a named profile without keys; `Unsupported` for one whose keys have to be
    /// fetched; `Io` for a file that cannot be read.
    pub(super) fn read(options: &ObjectOptions, environment: Environment<'_>) -> Result<Self> {
        let source = Source::new(options, environment);
        let settings = source.settings()?;
        let setting = |name: &str| settings.get(name).cloned();
        let (region, endpoint) = (setting("region"), setting("endpoint_url"));
        let is_set = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let is_explicit = options.profile.is_some() || options.credentials_file.is_some();
        if !is_explicit && (is_set("AWS_ACCESS_KEY_ID") || is_set("AWS_WEB_IDENTITY_TOKEN_FILE")) {
            return Ok(Self { region, endpoint, keys: None });
        }
        if let Some(first) = keys_in(&settings) {
            let cache = Mutex::new((Instant::now(), Arc::new(first)));
            return Ok(Self { region, endpoint, keys: Some(Arc::new(ProfileKeys { source, cache })) });
        }
        if !source.is_named {
            return Ok(Self { region, endpoint, keys: None });
        }
        if settings.is_empty() {
            return Err(source.without_keys("cannot be found"));
        }
        let fetched = ["sso_session", "sso_start_url", "role_arn", "credential_process"];
        if let Some(by) = fetched.into_iter().find(|name| settings.contains_key(*name)) {
            let profile = &source.profile;
            return Err(Error::unsupported(format!("the keys of the AWS profile `{profile}` have to be fetched (`{by}`)"))
                .with_hint(format!(
                    "let the AWS command line fetch them: `eval \"$(aws configure export-credentials --profile {profile} --format env)\"`"
                )));
        }
        Err(source.without_keys("has no keys"))
    }
}

/// The keys of a profile, read again from time to time.
pub(super) struct ProfileKeys {
    source: Source,
    cache: Mutex<(Instant, Arc<AwsCredential>)>,
}

impl fmt::Debug for ProfileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileKeys").field("profile", &self.source.profile).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for ProfileKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.0.elapsed() >= RELOAD_INTERVAL {
            // A file that is being written may be unreadable for a moment: the old keys may still do.
            if let Ok(keys) = self.source.keys() {
                cache.1 = Arc::new(keys);
            }
            cache.0 = Instant::now();
        }
        Ok(Arc::clone(&cache.1))
    }
}

/// The keys among the settings of a profile.
fn keys_in(settings: &BTreeMap<String, String>) -> Option<AwsCredential> {
    let setting = |name: &str| settings.get(name).filter(|value| !value.is_empty()).cloned();
    Some(AwsCredential {
        key_id: setting("aws_access_key_id")?,
        secret_key: setting("aws_secret_access_key")?,
        token: setting("aws_session_token"),
    })
}

/// The text of a file; `None` if it does not exist.
fn read(file: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    match opened {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("the file of credentials cannot be read", error).in_file(file)),
    }
}

/// The settings of one section of an INI file. Indented lines are settings inside of settings, of which none matters here.
fn section_of(text: &str, section: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            inside = name.split_whitespace().eq(section.split_whitespace());
        } else if inside && let Some((name, value)) = line.split_once('=') {
            // Like the AWS programs: a comment after a value needs a space before it.
            let value = value.split(" #").next().unwrap_or_default();
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A1\naws_secret_access_key=S1\n\n[ci]\naws_access_key_id=A2\naws_secret_access_key = S2 # rotated\naws_session_token = T2\n[empty]\nregion = eu-west-1\n";
    const CONFIG: &str = "[profile ci]\nregion = eu-central-1\ns3 =\n  addressing_style = path\nendpoint_url = https://s3.example\n[profile sso]\nsso_session = corp\n";

    struct Home(PathBuf);

    impl Home {
        fn new(name: &str) -> Self {
            let home = std::env::temp_dir().join(format!("lxd-image-aws-{}-{name}", std::process::id()));
            std::fs::create_dir_all(home.join(".aws")).unwrap();
            std::fs::write(home.join(".aws/credentials"), CREDENTIALS).unwrap();
            std::fs::write(home.join(".aws/config"), CONFIG).unwrap();
            Self(home)
        }

        fn profile(&self, options: &ObjectOptions, variables: &[(&str, &str)]) -> Result<Profile> {
            let home = self.0.to_string_lossy().into_owned();
            Profile::read(options, &|name| {
                if name == "HOME" {
                    return Some(home.clone());
                }
                variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn keys(profile: Profile) -> Option<(String, String, Option<String>)> {
        let keys = profile.keys?.source.keys().unwrap();
        Some((keys.key_id.clone(), keys.secret_key.clone(), keys.token.clone()))
    }

    #[test]
    fn default_profile_has_the_keys_without_a_name() {
        let home = Home::new("default");
        let found = keys(home.profile(&ObjectOptions::new(), &[]).unwrap());
        assert_eq!(found, Some(("A1".to_owned(), "S1".to_owned(), None)));
    }

    #[test]
    fn named_profile_joins_both_files() {
        let home = Home::new("named");
        let profile = home.profile(&ObjectOptions::new(), &[("AWS_PROFILE", "ci")]).unwrap();
        assert_eq!(profile.region.as_deref(), Some("eu-central-1"));
        assert_eq!(profile.endpoint.as_deref(), Some("https://s3.example"));
        assert_eq!(keys(profile), Some(("A2".to_owned(), "S2".to_owned(), Some("T2".to_owned()))));
    }

    #[test]
    fn keys_of_the_environment_come_before_a_profile_of_the_environment() {
        let home = Home::new("env");
        let set = [("AWS_PROFILE", "ci"), ("AWS_ACCESS_KEY_ID", "A3")];
        assert!(home.profile(&ObjectOptions::new(), &set).unwrap().keys.is_none());
        assert!(home.profile(&ObjectOptions::new().profile("ci"), &set).unwrap().keys.is_some());
    }

    #[test]
    fn named_profile_without_keys_is_an_error() {
        let home = Home::new("missing");
        for (name, kind) in
            [("nobody", ErrorKind::NotFound), ("empty", ErrorKind::NotFound), ("sso", ErrorKind::Unsupported)]
        {
            let error = home.profile(&ObjectOptions::new().profile(name), &[]).err().unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn debug_shows_no_keys() {
        let home = Home::new("debug");
        let profile = home.profile(&ObjectOptions::new(), &[]).unwrap();
        let shown = format!("{:?}", profile.keys.unwrap());
        assert!(!shown.contains("S1") && !shown.contains("A1"), "{shown}");
    }
}
