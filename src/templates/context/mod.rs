//! What a template is rendered with: the variables that LXD and Incus give to it.
//! Built by the caller; rendering never changes it.

mod json;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::go::time_layout::UtcTime;
use super::value::{Function, GoValue, Map, MapType, Value};

/// The variables of a rendering.
///
/// ```
/// use lxd_image::templates::Context;
///
/// let context = Context::new()
///     .trigger("create")
///     .path("/etc/hostname")
///     .instance([("name", "c1"), ("type", "container")])
///     .config([("user.fqdn", "c1.example.org")])
///     .device("eth0", [("type", "nic")])
///     .properties([("default", "none")]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Context {
    variables: BTreeMap<Vec<u8>, Value>,
    devices: Vec<(Arc<[u8]>, Value)>,
    now: Option<SystemTime>,
}

fn strings<K: AsRef<str>, V: AsRef<str>>(kind: MapType, entries: impl IntoIterator<Item = (K, V)>) -> Arc<Map> {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (Arc::from(key.as_ref().as_bytes()), Value::from(value.as_ref())))
        .collect();
    Arc::new(Map::new(kind, entries))
}

impl Context {
    /// A context with the names that the peers always give, and nothing behind them.
    #[must_use]
    pub fn new() -> Self {
        let nothing = || std::iter::empty::<(&str, &str)>();
        let mut context =
            Self::default().instance(nothing()).config(nothing()).properties(nothing()).trigger("").path("");
        context.publish_devices();
        context
    }

    /// A context without any variable, for [`variable`](Self::variable) to fill.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// `trigger`: `create`, `copy`, `rename` or `start`. Equal to no string in a template, as in the peers.
    #[must_use]
    pub fn trigger(self, trigger: &str) -> Self {
        self.variable("trigger", Value::trigger(trigger))
    }

    /// `path`: the target as the image's metadata has it.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        self.variable("path", Value::from(path))
    }

    /// `container` and `instance`: `name`, `type`, `architecture`, `privileged`, `ephemeral`.
    #[must_use]
    pub fn instance<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let map = strings(MapType::Strings, entries);
        self.variable("container", GoValue::Map(map.clone()).into()).variable("instance", GoValue::Map(map).into())
    }

    /// `config`, the expanded configuration, and `config_get` that reads it.
    #[must_use]
    pub fn config<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let map = strings(MapType::Strings, entries);
        self.variable("config", GoValue::Map(map.clone()).into())
            .variable("config_get", GoValue::Function(Function::ConfigGet(map)).into())
    }

    /// Adds one of the `devices`.
    #[must_use]
    pub fn device<K: AsRef<str>, V: AsRef<str>>(
        mut self,
        name: &str,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.devices.push((name.as_bytes().into(), GoValue::Map(strings(MapType::Device, entries)).into()));
        self.publish_devices();
        self
    }

    /// `properties` of the rule that the template belongs to.
    #[must_use]
    pub fn properties<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        self.variable("properties", GoValue::Map(strings(MapType::Strings, entries)).into())
    }

    /// Any other variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: Value) -> Self {
        self.variables.insert(name.as_bytes().to_vec(), value);
        self
    }

    /// The time that `{% now %}` shows, in UTC; the time_layout's if it is not given.
    #[must_use]
    pub fn now(mut self, now: SystemTime) -> Self {
        self.now = Some(now);
        self
    }

    fn publish_devices(&mut self) {
        let map = Map::new(MapType::Devices, self.devices.clone());
        self.variables.insert(b"devices".to_vec(), GoValue::Map(Arc::new(map)).into());
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Value> {
        self.variables.get(name)
    }

    pub(crate) fn moment(&self) -> UtcTime {
        UtcTime::from_system(self.now.unwrap_or_else(SystemTime::now))
    }

    /// A name that no template can use; pongo2 refuses a context that has one.
    pub(crate) fn wrong_name(&self) -> Option<&[u8]> {
        let fits = |name: &[u8]| !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        self.variables.keys().map(Vec::as_slice).find(|name| !fits(name))
    }
}
