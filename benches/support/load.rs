use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::server::{Person, SERVICE_TOKEN, Server};

/// One kind of request, sent as fast as the server answers.
pub(crate) struct Load {
    url: String,
    /// The directory of the script, if the load needs one. It is removed with the load.
    script: Option<TempDir>,
}

impl Load {
    pub(crate) fn get(server: &Server, path: &str) -> Self {
        Self { url: server.url(path), script: None }
    }

    pub(crate) fn verify(server: &Server, token: &str) -> Self {
        Self::scripted(
            server.url("/verify"),
            &format!(
                "wrk.method = 'POST'\nwrk.headers['X-Service-Token'] = '{SERVICE_TOKEN}'\n\
                 wrk.headers['Authorization'] = 'Bearer {token}'\n"
            ),
        )
    }

    /// Token checks, each with a random one of these tokens. This number of requests is prepared in advance, each with
    /// an id of its own. Compared loads must prepare the same number, because the generator is slower the more requests
    /// it goes through.
    pub(crate) fn verify_any(server: &Server, tokens: &[String], requests: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("tokens");
        std::fs::write(&file, tokens.join("\n")).unwrap();
        // The requests are built once: CPU time that the load spends on each request is not available to the server.
        let script = format!(
            "requests = {{}}\n\
             function init()\n\
             local headers = {{ ['X-Service-Token'] = '{SERVICE_TOKEN}' }}\n\
             local tokens = {{}}\n\
             for token in io.lines('{}') do tokens[#tokens + 1] = token end\n\
             for n = 1, {requests} do\n\
             headers['X-Request-Id'] = string.format('request-%08d', n)\n\
             headers['Authorization'] = 'Bearer ' .. tokens[n % #tokens + 1]\n\
             requests[n] = wrk.format('POST', nil, headers)\n\
             end\n\
             end\n\
             function request() return requests[math.random(#requests)] end\n",
            file.display()
        );
        std::fs::write(directory.path().join("load.lua"), script).unwrap();
        Self { url: server.url("/verify"), script: Some(directory) }
    }

    /// Logins of these people in turn.
    pub(crate) fn logins(server: &Server, people: &[Person]) -> Self {
        let mut script =
            String::from("wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nbodies = {\n");
        for person in people {
            writeln!(script, "'{{\"email\":\"{}\",\"password\":\"{}\"}}',", person.email, person.password).unwrap();
        }
        script += "}\nn = 0\nfunction request() n = n % #bodies + 1; return wrk.format(nil, nil, nil, bodies[n]) end\n";
        Self::scripted(server.url("/login"), &script)
    }

    fn scripted(url: String, script: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("load.lua"), script).unwrap();
        Self { url, script: Some(directory) }
    }

    /// Returns the answered requests per second. Panics on any answer other than success.
    pub(crate) fn run(&self, connections: usize, time: Duration) -> f64 {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{}s", time.as_secs())]);
        if let Some(directory) = &self.script {
            wrk.arg("-s").arg(directory.path().join("load.lua"));
        }
        let report = wrk.arg(&self.url).output().unwrap();
        let report = String::from_utf8(report.stdout).unwrap();
        assert!(!report.contains("Non-2xx"), "{report}");
        let rate = report.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
        rate.unwrap_or_else(|| panic!("{report}")).trim().parse().unwrap()
    }
}
