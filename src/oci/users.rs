//! Who a container of an image runs as: the `User` of its configuration, looked up in the image's own `/etc/passwd` and
//! `/etc/group` by the rules of runc, which umoci and Docker share.

use super::document::shorten;
use crate::error::{Error, ErrorKind, Result};

/// The user of the first process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups.
    pub(super) groups: Vec<u32>,
    /// The home directory; empty where nothing says it.
    pub(super) home: String,
}

/// Looks up `name`, `uid`, `name:group` and so on; the empty text is root.
///
/// # Errors
/// `NotFound` for a name that neither file has; `Malformed` for a number that is no id.
pub(super) fn look_up(spec: &str, passwd: &[u8], group: &[u8]) -> Result<User> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted_uid = id_of(user_part)?;
    let mut user = User::default();
    let mut name = None;
    for line in lines(passwd) {
        // name:password:uid:gid:comment:home:shell
        let field = |at: usize| line.get(at).copied().unwrap_or_default();
        let uid = field(2).parse::<u32>().unwrap_or(0);
        let is_user = match (user_part, wanted_uid) {
            ("", _) => uid == 0,
            (_, Some(wanted)) => uid == wanted,
            (wanted, None) => field(0) == wanted,
        };
        if is_user {
            user.uid = uid;
            user.gid = field(3).parse().unwrap_or(0);
            user.home = field(5).to_owned();
            name = Some(field(0).to_owned());
            break;
        }
    }
    match (&name, wanted_uid) {
        (None, Some(uid)) => user.uid = uid,
        (None, None) if !user_part.is_empty() => return Err(missing("user", user_part, "/etc/passwd")),
        _ => {}
    }
    if group_part.is_empty() {
        if let Some(name) = &name {
            user.groups = lines(group)
                .filter(|line| line.get(3).is_some_and(|members| members.split(',').any(|member| member == name)))
                .filter_map(|line| line.get(2)?.parse().ok())
                .collect();
        }
        return Ok(user);
    }
    let wanted_gid = id_of(group_part)?;
    let found = lines(group).find_map(|line| {
        let gid = line.get(2)?.parse().ok()?;
        let is_group = wanted_gid.map_or(line.first() == Some(&group_part), |wanted| gid == wanted);
        is_group.then_some(gid)
    });
    user.gid = found.or(wanted_gid).ok_or_else(|| missing("group", group_part, "/etc/group"))?;
    Ok(user)
}

/// The number, if the text is one; Linux has ids up to 2³¹−1 in such files.
fn id_of(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if i32::try_from(id).is_ok() => Ok(Some(id)),
        _ => Err(Error::malformed(format!("the image's user has the id {}, which is too large", shorten(text)))),
    }
}

fn missing(kind: &str, name: &str, file: &str) -> Error {
    let name = shorten(name);
    Error::new(ErrorKind::NotFound, format!("the image runs as the {kind} `{name}`, which its {file} does not have"))
}

/// The lines of a file, in their fields. What is no UTF-8 is no line.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\ndaemon:x:1:2:d:/usr/sbin:/bin/sh\nodd:x\n";
    const GROUP: &[u8] = b"root:x:0:\nmail:x:8:daemon,root\nwww:x:33:daemon\n";

    #[test]
    fn user_is_looked_up_as_runc_does() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![8], "/root"),
            ("daemon", 1, 2, vec![8, 33], "/usr/sbin"),
            ("1", 1, 2, vec![8, 33], "/usr/sbin"),
            ("daemon:www", 1, 33, vec![], "/usr/sbin"),
            ("1:77", 1, 77, vec![], "/usr/sbin"),
            ("1000", 1000, 0, vec![], ""),
            ("1000:mail", 1000, 8, vec![], ""),
        ] {
            let expected = User { uid, gid, groups, home: home.to_owned() };
            assert_eq!(look_up(spec, PASSWD, GROUP).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn unknown_user_and_group_are_refused() {
        for spec in ["nobody", "daemon:nobody", "4294967296", "2147483648:0"] {
            look_up(spec, PASSWD, GROUP).unwrap_err();
        }
        assert_eq!(look_up("", b"", b"").unwrap(), User::default());
    }
}
