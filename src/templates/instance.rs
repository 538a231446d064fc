//! [`Instance`]: the facts about an instance that templates may see.
//!
//! The names and values are those that LXD and Incus give. What belongs to a single rule
//! (`trigger`, `path`, `properties`) is added by [`apply`](super::apply()).

use super::context::Context;

/// The facts of an instance, from which [`context`](Self::context) makes the variables of its
/// templates.
///
/// ```
/// use lxd_image::templates::{Dialect, Instance, Template};
/// use lxd_image::Limits;
///
/// let context = Instance::new("c1")
///     .architecture("x86_64")
///     .config("user.fqdn", "c1.example.org")
///     .device("eth0", [("type", "nic")])
///     .context();
/// let limits = Limits::default();
/// let template = Template::parse(b"{{ instance.type }} {{ config_get('user.fqdn', '') }}", Dialect::Lxd, &limits)?;
/// assert_eq!(template.render(&context, &limits)?, b"container c1.example.org");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Instance {
    name: String,
    virtual_machine: bool,
    architecture: String,
    privileged: bool,
    ephemeral: bool,
    config: Vec<(String, String)>,
    devices: Vec<(String, Vec<(String, String)>)>,
}

impl Instance {
    /// Creates an unprivileged, persistent container with an empty architecture, no configuration
    /// and no devices.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            virtual_machine: false,
            architecture: String::new(),
            privileged: false,
            ephemeral: false,
            config: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// Sets whether it is a virtual machine. The default is a container.
    #[must_use]
    pub fn virtual_machine(mut self, yes: bool) -> Self {
        self.virtual_machine = yes;
        self
    }

    /// Sets the architecture by its kernel name, such as `x86_64`.
    #[must_use]
    pub fn architecture(mut self, name: impl Into<String>) -> Self {
        self.architecture = name.into();
        self
    }

    /// Sets whether it runs without an id map, so that its root is the host's root
    /// (`security.privileged`).
    #[must_use]
    pub fn privileged(mut self, yes: bool) -> Self {
        self.privileged = yes;
        self
    }

    /// Sets whether it is deleted when it stops.
    #[must_use]
    pub fn ephemeral(mut self, yes: bool) -> Self {
        self.ephemeral = yes;
        self
    }

    /// Adds a key of the expanded configuration, that is with the profiles applied.
    ///
    /// LXD passes volatile keys and `image.*` keys as well; pass what the instance's API shows as
    /// `expanded_config`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Adds a device of the expanded devices, that is with the profiles applied (`expanded_devices`
    /// in the API).
    #[must_use]
    pub fn device<K: Into<String>, V: Into<String>>(
        mut self,
        name: impl Into<String>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.devices.push((name.into(), entries));
        self
    }

    /// Creates the variables for this instance's templates.
    #[must_use]
    pub fn context(&self) -> Context {
        let truth = |yes: bool| if yes { "true" } else { "false" };
        let context = Context::new()
            .instance([
                ("name", self.name.as_str()),
                ("type", if self.virtual_machine { "virtual-machine" } else { "container" }),
                ("architecture", &self.architecture),
                ("privileged", truth(self.privileged)),
                ("ephemeral", truth(self.ephemeral)),
            ])
            .config(self.config.iter().map(|(key, value)| (key, value)));
        self.devices.iter().fold(context, |context, (name, entries)| {
            context.device(name, entries.iter().map(|(key, value)| (key, value)))
        })
    }
}

impl From<&Instance> for Context {
    fn from(instance: &Instance) -> Self {
        instance.context()
    }
}
