//! A throw-away PostgreSQL server: own folder, free port, TLS, SCRAM only, every statement logged.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Password of the superuser `super`.
pub const SUPER: &str = "super-password-of-the-test";
/// Who may come in: TLS and SCRAM only.
pub const HBA: &str = "local all all scram-sha-256\nhostssl all all 127.0.0.0/8 scram-sha-256\n";

/// A running server; stopped and removed on drop.
pub struct PostgresServer {
    pub port: u16,
    /// The authority that signs the server's certificate: the certificate itself.
    pub ca_pem: String,
    programs: PathBuf,
    folder: tempfile::TempDir,
    owner: Option<(u32, u32)>,
    server: Option<Child>,
}

/// The folder with the programs of a server, version 15 preferred.
fn programs() -> Option<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/lib/postgresql/15/bin")];
    let mut others: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    others.sort();
    folders.extend(others.into_iter().rev());
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.into_iter().find(|folder| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).exists()))
}

/// User and group for the server, which refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse::<u32>());
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user to run the server as"))
}

impl PostgresServer {
    /// A server with the given lines on top of the usual configuration. `None` when there is no PostgreSQL here and
    /// the tests were asked to be fast.
    ///
    /// # Panics
    /// When there is no PostgreSQL and `STRONGROOM_FAST` is not set, and when the server does not start.
    pub fn start(more: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("STRONGROOM_FAST").is_some(),
                "no PostgreSQL server is installed: install the package postgresql-15 (or postgresql), or set \
                 STRONGROOM_FAST=1 to leave these tests out"
            );
            println!("skipped: no PostgreSQL server is installed and STRONGROOM_FAST is set");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let owner = owner();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let mut server = Self { port, ca_pem: certificate.pem(), programs, folder, owner, server: None };
        if let Some((uid, gid)) = owner {
            chown(server.folder.path(), Some(uid), Some(gid)).unwrap();
        }
        server.file("password", SUPER);
        server.file("server.key", &key.serialize_pem());
        server.file("server.crt", &server.ca_pem);
        let mut initdb = server.program("initdb");
        initdb.args(["--username=super", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--pwfile").arg(server.path("password")).arg("--pgdata").arg(server.path("data"));
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let statistics = server.has("pg_stat_statements");
        let configuration = format!(
            "listen_addresses = '127.0.0.1,127.0.0.2'\nport = {port}\nunix_socket_directories = '{folder}'\n\
             ssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n\
             password_encryption = 'scram-sha-256'\nlog_statement = 'all'\nlog_connections = on\n\
             log_min_duration_statement = 0\nlog_min_error_statement = 'debug5'\nfsync = off\nmax_connections = 60\n\
             {}\n{more}\n",
            if statistics {
                "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track_utility = on"
            } else {
                ""
            },
            folder = server.folder.path().display(),
        );
        server.file("data/postgresql.conf", &configuration);
        server.file("data/pg_hba.conf", HBA);
        server.run();
        if statistics {
            server.sql("CREATE EXTENSION pg_stat_statements");
        }
        Some(server)
    }

    /// A path in the server's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only the server can read.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.owner {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Whether an extension is installed beside the server.
    pub fn has(&self, extension: &str) -> bool {
        let folder = Command::new(self.programs.join("pg_config")).arg("--pkglibdir").output();
        folder.is_ok_and(|output| {
            Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(format!("{extension}.so")).exists()
        })
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(self.folder.path());
        command.stdin(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server and waits until it takes logins.
    pub fn run(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.path("data")).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.psql("super", SUPER, "SELECT 1").output().unwrap().status.success() {
            assert!(Instant::now() < deadline, "the server does not start: {}", self.log());
            sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server at once. What it committed is kept.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_process(Pid::from_child(&server), Signal::INT).unwrap();
            server.wait().unwrap();
        }
    }

    /// `psql` over the Unix socket, not yet started.
    pub fn psql(&self, user: &str, password: &str, sql: &str) -> Command {
        let mut command = self.program("psql");
        command.env("PGPASSWORD", password).args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
        command.arg("-h").arg(self.folder.path()).arg("-p").arg(self.port.to_string());
        command.args(["-U", user, "-c", sql]);
        command
    }

    /// What the superuser's statement answers.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.psql("super", SUPER, sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Changes a setting of the running server.
    pub fn set(&self, setting: &str) {
        self.sql(&format!("ALTER SYSTEM SET {setting}"));
        self.reload();
    }

    /// Changes who may come in.
    pub fn hba(&self, text: &str) {
        self.file("data/pg_hba.conf", text);
        self.reload();
    }

    fn reload(&self) {
        self.sql("SELECT pg_reload_conf()");
        // New sessions get the new settings once the first process has seen the signal.
        sleep(Duration::from_millis(300));
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// Everything the server has logged, and its statistics of statements where it has them.
    pub fn traces(&self) -> String {
        let mut traces = self.log();
        if self.has("pg_stat_statements") {
            let statements = self.sql("SELECT query FROM pg_stat_statements");
            assert!(statements.contains("ALTER ROLE"), "the statistics do not hold what was done: {statements}");
            traces.push_str(&statements);
        }
        traces
    }

    /// Copies the stopped server's data away, or back.
    pub fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from), self.path(to));
        let _absent = fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}
