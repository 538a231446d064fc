//! [`Context`]: the variables that a template is rendered with.
//!
//! A context is built by the caller and never changed by rendering, so one can serve many
//! templates. Cloning shares the values. [`json`] reads one from JSON.

mod json;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::go::time_layout::UtcTime;
use super::value::{Function, GoValue, Map, MapType, Value};

/// The variables of a rendering.
///
/// [`Context::new`] has every name that LXD and Incus set, with empty values; fill in what is
/// known. Three other ways to make one: [`Instance::context`](super::Instance::context) from the
/// facts of an instance, [`Context::from_json`] from a file, [`Context::empty`] for templates that
/// are not an image's.
///
/// ```
/// use lxd_image::templates::{Context, Dialect, Template};
/// use lxd_image::Limits;
///
/// let context = Context::new()
///     .trigger("create")
///     .path("/etc/hostname")
///     .instance([("name", "c1"), ("type", "container")])
///     .config([("user.fqdn", "c1.example.org")])
///     .device("eth0", [("type", "nic")])
///     .properties([("default", "none")]);
///
/// let source = b"{{ path }}: {{ config_get('user.fqdn', properties.default) }}, {{ devices.eth0.type }}";
/// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
/// assert_eq!(template.render(&context, &Limits::default())?, b"/etc/hostname: c1.example.org, nic");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Context {
    variables: BTreeMap<Vec<u8>, Value>,
    /// Kept beside the variables, because each call of [`device`](Self::device) rebuilds the map of
    /// all.
    devices: Vec<(Arc<[u8]>, Value)>,
    now: Option<SystemTime>,
}

/// Builds a map of texts with the given Go type.
fn strings<K: AsRef<str>, V: AsRef<str>>(kind: MapType, entries: impl IntoIterator<Item = (K, V)>) -> Arc<Map> {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (Arc::from(key.as_ref().as_bytes()), Value::from(value.as_ref())))
        .collect();
    Arc::new(Map::new(kind, entries))
}

impl Context {
    /// Creates a context with every name that LXD and Incus set, all empty.
    #[must_use]
    pub fn new() -> Self {
        // Present and empty, as LXD sets them: `config` prints its type's name, an undefined name
        // nothing.
        let nothing = || std::iter::empty::<(&str, &str)>();
        let mut context =
            Self::default().instance(nothing()).config(nothing()).properties(nothing()).trigger("").path("");
        context.publish_devices();
        context
    }

    /// Creates a context without any variable. Add them with [`variable`](Self::variable).
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets `trigger`: `create`, `copy`, `rename` or `start`.
    ///
    /// It prints as text but equals no text in a template, as in LXD and Incus. Templates use
    /// `trigger|lower == "create"`.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new().trigger("create");
    /// let render = |source: &[u8]| {
    ///     Template::parse(source, Dialect::Lxd, &Limits::default())?.render(&context, &Limits::default())
    /// };
    /// assert_eq!(render(b"{{ trigger }}")?, b"create");
    /// assert_eq!(render(b"{{ trigger == \"create\" }}")?, b"False");
    /// assert_eq!(render(b"{{ trigger|lower == \"create\" }}")?, b"True");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn trigger(self, trigger: &str) -> Self {
        self.variable("trigger", Value::trigger(trigger))
    }

    /// Sets `path`: the target path, as the image's metadata has it.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        self.variable("path", Value::from(path))
    }

    /// Sets `container` and `instance`, two names of one map. LXD and Incus set the keys `name`,
    /// `type`, `architecture`, `privileged` and `ephemeral`; booleans are `"true"` and `"false"`.
    #[must_use]
    pub fn instance<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let map = strings(MapType::Strings, entries);
        self.variable("container", GoValue::Map(map.clone()).into()).variable("instance", GoValue::Map(map).into())
    }

    /// Sets `config`, the expanded configuration, and `config_get(key, default)`, which reads it.
    ///
    /// In LXD's dialect a key with dots cannot be reached through `config`; `config_get` is there
    /// for that.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new().config([("limits.memory", "2GiB\n")]);
    /// let source = b"[{{ config.limits.memory }}] [{{ config_get('limits.memory', '1GiB') }}]";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"[] [2GiB]");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn config<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let map = strings(MapType::Strings, entries);
        self.variable("config", GoValue::Map(map.clone()).into())
            .variable("config_get", GoValue::Function(Function::ConfigGet(map)).into())
    }

    /// Adds one of the `devices`, the expanded devices of the instance. A repeated name replaces
    /// the earlier one.
    ///
    /// ```
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new()
    ///     .device("root", [("type", "disk"), ("path", "/")])
    ///     .device("eth0", [("type", "nic")]);
    /// let source = b"{% for name, device in devices sorted %}{{ name }}={{ device.type }};{% endfor %}";
    /// let template = Template::parse(source, Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"eth0=nic;root=disk;");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn device<K: AsRef<str>, V: AsRef<str>>(
        mut self,
        name: &str,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        // Go's type of each device is `config.Device`, which printing shows.
        self.devices.push((name.as_bytes().into(), GoValue::Map(strings(MapType::Device, entries)).into()));
        self.publish_devices();
        self
    }

    /// Sets `properties`, the properties of the rule that the template belongs to.
    #[must_use]
    pub fn properties<K: AsRef<str>, V: AsRef<str>>(self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        self.variable("properties", GoValue::Map(strings(MapType::Strings, entries)).into())
    }

    /// Sets any other variable. Rendering fails if the name is empty or has characters other than
    /// ASCII letters, digits and `_`.
    ///
    /// A name that LXD sets can be replaced, too: the last call for a name counts.
    #[must_use]
    pub fn variable(mut self, name: &str, value: Value) -> Self {
        self.variables.insert(name.as_bytes().to_vec(), value);
        self
    }

    /// Sets the time that `{% now %}` shows, in UTC. Without it, the system clock is read at
    /// rendering.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// use lxd_image::templates::{Context, Dialect, Template};
    /// use lxd_image::Limits;
    ///
    /// let context = Context::new().now(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    /// let template = Template::parse(b"{% now \"2006-01-02 15:04\" %}", Dialect::Lxd, &Limits::default())?;
    /// assert_eq!(template.render(&context, &Limits::default())?, b"2023-11-14 22:13");
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    #[must_use]
    pub fn now(mut self, now: SystemTime) -> Self {
        self.now = Some(now);
        self
    }

    /// Rebuilds the variable `devices`.
    fn publish_devices(&mut self) {
        let map = Map::new(MapType::Devices, self.devices.clone());
        self.variables.insert(b"devices".to_vec(), GoValue::Map(Arc::new(map)).into());
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Value> {
        self.variables.get(name)
    }

    /// The time that `{% now %}` shows.
    pub(crate) fn moment(&self) -> UtcTime {
        UtcTime::from_system(self.now.unwrap_or_else(SystemTime::now))
    }

    /// A variable whose name no template can use, if there is one. pongo2 refuses to execute with
    /// such a context.
    pub(crate) fn wrong_name(&self) -> Option<&[u8]> {
        let fits = |name: &[u8]| !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        self.variables.keys().map(Vec::as_slice).find(|name| !fits(name))
    }
}
