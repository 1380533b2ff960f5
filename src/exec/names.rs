//! Variable names: which are portable, which change how programs load code, which are ours.

use std::ffi::OsStr;

/// What a pristine environment still has.
pub const BASIC: &[&str] = &["HOME", "LANG", "LOGNAME", "PATH", "TERM", "TZ", "USER"];

/// Names that make a program load or run what the value says, sorted. Whoever may write a secret must not thereby run code
/// in every program that is started with it.
const DANGEROUS: &[(&str, &str)] = &[
    ("BASH_ENV", "is a script that bash runs at start"),
    ("CDPATH", "changes where cd goes"),
    ("ENV", "is a script that shells run at start"),
    ("GCONV_PATH", "makes libc load code"),
    ("GIT_SSH", "is a program that git runs"),
    ("GIT_SSH_COMMAND", "is a command that git runs"),
    ("GLIBC_TUNABLES", "changes libc's behaviour"),
    ("HOSTALIASES", "redirects host names"),
    ("IFS", "changes how shells split words"),
    ("JAVA_TOOL_OPTIONS", "makes Java load code"),
    ("JDK_JAVA_OPTIONS", "makes Java load code"),
    ("LOCPATH", "makes libc load files"),
    ("NLSPATH", "makes libc load files"),
    ("NODE_OPTIONS", "makes Node load code"),
    ("NODE_PATH", "makes Node load code"),
    ("PATH", "decides which programs are run"),
    ("PERL5DB", "is code that Perl runs"),
    ("PERL5LIB", "makes Perl load code"),
    ("PERL5OPT", "makes Perl load code"),
    ("PHPRC", "makes PHP load code"),
    ("PROMPT_COMMAND", "is a command that bash runs"),
    ("PYTHONBREAKPOINT", "makes Python load code"),
    ("PYTHONHOME", "makes Python load code"),
    ("PYTHONINSPECT", "opens a Python prompt"),
    ("PYTHONPATH", "makes Python load code"),
    ("PYTHONSTARTUP", "is a script that Python runs"),
    ("RESOLV_HOST_CONF", "redirects host names"),
    ("RUBYLIB", "makes Ruby load code"),
    ("RUBYOPT", "makes Ruby load code"),
    ("SHELLOPTS", "changes how bash runs scripts"),
    ("SSLKEYLOGFILE", "makes programs write down TLS keys"),
    ("TMPDIR", "decides where temporary files go"),
    ("_JAVA_OPTIONS", "makes Java load code"),
];

/// Beginnings of names with the same effect.
const DANGEROUS_PREFIXES: &[(&str, &str)] = &[
    ("BASH_FUNC_", "defines a function in every bash"),
    ("DYLD_", "makes the loader load code"),
    ("GIT_CONFIG", "changes what git runs"),
    ("LD_", "makes the loader load code"),
    ("MALLOC_", "changes the allocator"),
];

/// Why `name` must not come from a secret without being asked for; `None` for ordinary names.
#[must_use]
pub fn danger(name: &str) -> Option<&'static str> {
    if let Ok(at) = DANGEROUS.binary_search_by_key(&name, |(known, _)| known) {
        return DANGEROUS.get(at).map(|(_, reason)| *reason);
    }
    DANGEROUS_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason)
}

/// Whether `name` holds a credential of ours, or says where one is: the child has no business with it.
#[must_use]
pub fn is_own_credential(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"STRONGROOM_")
        || matches!(
            name,
            b"VAULT_TOKEN" | b"VAULT_CLIENT_CERT" | b"VAULT_CLIENT_KEY" | b"CREDENTIALS_DIRECTORY" | b"NOTIFY_SOCKET"
        )
}
