//! Names of variables: which are portable, which change how programs load code, and which are our own.

use std::ffi::OsStr;

/// The variables of a pristine environment.
pub const BASIC: &[&str] = &["HOME", "LANG", "LOGNAME", "PATH", "TERM", "TZ", "USER"];

/// Names that make a program load or run what the value says, or trust or contact what it names. Sorted. Permission to
/// write a secret must not be permission to run code in every program that is started with it.
pub(super) const DANGEROUS: &[(&str, &str)] = &[
    ("ALL_PROXY", "sends connections elsewhere"),
    ("AWS_CONFIG_FILE", "names programs that AWS clients run"),
    ("AWS_SHARED_CREDENTIALS_FILE", "names programs that AWS clients run"),
    ("BASHOPTS", "changes how bash runs scripts"),
    ("BASH_ENV", "is a script that bash runs at start"),
    ("BROWSER", "is a command that programs run"),
    ("BUNDLE_GEMFILE", "makes Ruby load code"),
    ("CDPATH", "changes where cd goes"),
    ("CLASSPATH", "makes Java load code"),
    ("CORECLR_PROFILER_PATH", "makes .NET load code"),
    ("CURL_CA_BUNDLE", "decides which servers are trusted"),
    ("DOCKER_CONFIG", "names programs that docker runs"),
    ("DOCKER_HOST", "sends what docker does elsewhere"),
    ("DOTNET_ADDITIONAL_DEPS", "makes .NET load code"),
    ("DOTNET_SHARED_STORE", "makes .NET load code"),
    ("DOTNET_STARTUP_HOOKS", "makes .NET load code"),
    ("EDITOR", "is a command that programs run"),
    ("ELIXIR_ERL_OPTIONS", "is code that Erlang runs"),
    ("ENV", "is a script that shells run at start"),
    ("ERL_AFLAGS", "is code that Erlang runs"),
    ("ERL_FLAGS", "is code that Erlang runs"),
    ("ERL_LIBS", "makes Erlang load code"),
    ("ERL_ZFLAGS", "is code that Erlang runs"),
    ("GCONV_PATH", "makes libc load code"),
    ("GEM_HOME", "makes Ruby load code"),
    ("GEM_PATH", "makes Ruby load code"),
    ("GIT_ASKPASS", "is a program that git runs"),
    ("GIT_EDITOR", "is a command that git runs"),
    ("GIT_EXEC_PATH", "decides which programs git runs"),
    ("GIT_EXTERNAL_DIFF", "is a command that git runs"),
    ("GIT_PAGER", "is a command that git runs"),
    ("GIT_PROXY_COMMAND", "is a command that git runs"),
    ("GIT_SEQUENCE_EDITOR", "is a command that git runs"),
    ("GIT_SSH", "is a program that git runs"),
    ("GIT_SSH_COMMAND", "is a command that git runs"),
    ("GIT_TEMPLATE_DIR", "makes git run hooks"),
    ("GLIBC_TUNABLES", "changes libc's behaviour"),
    ("HOME", "decides which configuration programs read"),
    ("HOSTALIASES", "redirects host names"),
    ("HTTPS_PROXY", "sends connections elsewhere"),
    ("HTTP_PROXY", "sends connections elsewhere"),
    ("IFS", "changes how shells split words"),
    ("JAVA_TOOL_OPTIONS", "makes Java load code"),
    ("JDK_JAVA_OPTIONS", "makes Java load code"),
    ("KUBECONFIG", "names programs that Kubernetes clients run"),
    ("LESSCLOSE", "is a command that less runs"),
    ("LESSOPEN", "is a command that less runs"),
    ("LOCPATH", "makes libc load files"),
    ("MAKEFILES", "is code that make runs"),
    ("MAKEFLAGS", "changes what make runs"),
    ("NLSPATH", "makes libc load files"),
    ("NODE_EXTRA_CA_CERTS", "decides which servers are trusted"),
    ("NODE_OPTIONS", "makes Node load code"),
    ("NODE_PATH", "makes Node load code"),
    ("OPENSSL_CONF", "makes OpenSSL load code"),
    ("OPENSSL_ENGINES", "makes OpenSSL load code"),
    ("OPENSSL_MODULES", "makes OpenSSL load code"),
    ("PAGER", "is a command that programs run"),
    ("PATH", "decides which programs are run"),
    ("PERL5DB", "is code that Perl runs"),
    ("PERL5LIB", "makes Perl load code"),
    ("PERL5OPT", "makes Perl load code"),
    ("PERLLIB", "makes Perl load code"),
    ("PHPRC", "makes PHP load code"),
    ("PHP_INI_SCAN_DIR", "makes PHP load code"),
    ("PROMPT_COMMAND", "is a command that bash runs"),
    ("PS4", "is expanded by shells that trace"),
    ("PYTHONBREAKPOINT", "makes Python load code"),
    ("PYTHONHOME", "makes Python load code"),
    ("PYTHONINSPECT", "opens a Python prompt"),
    ("PYTHONPATH", "makes Python load code"),
    ("PYTHONPLATLIBDIR", "makes Python load code"),
    ("PYTHONSTARTUP", "is a script that Python runs"),
    ("PYTHONUSERBASE", "makes Python load code"),
    ("PYTHONWARNINGS", "makes Python load code"),
    ("REQUESTS_CA_BUNDLE", "decides which servers are trusted"),
    ("RESOLV_HOST_CONF", "redirects host names"),
    ("RUBYLIB", "makes Ruby load code"),
    ("RUBYOPT", "makes Ruby load code"),
    ("RUSTC_WORKSPACE_WRAPPER", "is a program that cargo runs"),
    ("RUSTC_WRAPPER", "is a program that cargo runs"),
    ("RUSTFLAGS", "changes what cargo runs"),
    ("R_ENVIRON", "makes R load code"),
    ("R_PROFILE", "is code that R runs"),
    ("R_PROFILE_USER", "is code that R runs"),
    ("SHELL", "decides which shell is run"),
    ("SHELLOPTS", "changes how bash runs scripts"),
    ("SSH_ASKPASS", "is a program that ssh runs"),
    ("SSLKEYLOGFILE", "makes programs write down TLS keys"),
    ("SSL_CERT_DIR", "decides which servers are trusted"),
    ("SSL_CERT_FILE", "decides which servers are trusted"),
    ("SUDO_ASKPASS", "is a program that sudo runs"),
    ("TCLLIBPATH", "makes Tcl load code"),
    ("TMPDIR", "decides where temporary files go"),
    ("VISUAL", "is a command that programs run"),
    ("XDG_CONFIG_DIRS", "decides which configuration programs read"),
    ("XDG_CONFIG_HOME", "decides which configuration programs read"),
    ("ZDOTDIR", "is where zsh looks for scripts that it runs"),
    ("_JAVA_OPTIONS", "makes Java load code"),
    ("all_proxy", "sends connections elsewhere"),
    ("http_proxy", "sends connections elsewhere"),
    ("https_proxy", "sends connections elsewhere"),
];

/// Prefixes of names with the same effect.
const DANGEROUS_PREFIXES: &[(&str, &str)] = &[
    ("BASH_FUNC_", "defines a function in every bash"),
    ("COR_PROFILER", "makes .NET load code"),
    ("DYLD_", "makes the loader load code"),
    ("GIT_CONFIG", "changes what git runs"),
    ("LD_", "makes the loader load code"),
    ("LUA_CPATH", "makes Lua load code"),
    ("LUA_INIT", "is code that Lua runs"),
    ("LUA_PATH", "makes Lua load code"),
    ("MALLOC_", "changes the allocator"),
    ("NPM_CONFIG_", "changes what npm runs"),
    ("STRONGROOM_", "decides which vault strongroom talks to"),
    ("npm_config_", "changes what npm runs"),
];

/// Why `name` must not come from a secret unless it is allowed explicitly; `None` for ordinary names.
#[must_use]
pub fn danger(name: &str) -> Option<&'static str> {
    if let Ok(at) = DANGEROUS.binary_search_by_key(&name, |(known, _)| known) {
        return DANGEROUS.get(at).map(|(_, reason)| *reason);
    }
    DANGEROUS_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason)
}

/// Whether `name` holds one of our own credentials, or says where to find one. The child must not get it.
pub(super) fn is_own_credential(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"STRONGROOM_")
        || matches!(
            name,
            b"VAULT_TOKEN" | b"VAULT_CLIENT_CERT" | b"VAULT_CLIENT_KEY" | b"CREDENTIALS_DIRECTORY" | b"NOTIFY_SOCKET"
        )
}
