//! What a template may know about an instance, and the context that comes of it.
//! The names are those that LXD and Incus give; a rule's own values are added where it is applied.

use super::context::Context;

/// The facts of an instance, for [`context`](Self::context).
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
    /// An unprivileged container that stays, of an architecture that nobody named.
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

    /// Whether it is a virtual machine, and no container.
    #[must_use]
    pub fn virtual_machine(mut self, yes: bool) -> Self {
        self.virtual_machine = yes;
        self
    }

    /// The architecture by its kernel name, such as `x86_64`.
    #[must_use]
    pub fn architecture(mut self, name: impl Into<String>) -> Self {
        self.architecture = name.into();
        self
    }

    /// Whether its root is the host's.
    #[must_use]
    pub fn privileged(mut self, yes: bool) -> Self {
        self.privileged = yes;
        self
    }

    /// Whether it is removed when it stops.
    #[must_use]
    pub fn ephemeral(mut self, yes: bool) -> Self {
        self.ephemeral = yes;
        self
    }

    /// Adds a key of the configuration, profiles included.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Adds a device, profiles' devices included.
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

    /// The variables that templates of this instance are given.
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
