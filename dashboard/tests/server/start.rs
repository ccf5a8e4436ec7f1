//! How it starts, the demo's sign-in, TLS to the database.

use crate::harness::*;
use crate::tokens::PUBLIC;
use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::run;
use llm_analytics_tests::world::World;

#[test]
fn wrong_settings() {
    let bare: String = PUBLIC.lines().filter(|line| !line.starts_with("-----")).collect();
    let public_file = format!("{}/tests/server/test_only_rsa.pub.pem", env!("CARGO_MANIFEST_DIR"));
    for (database, key, arguments, word) in [
        ("host=x", "short", &[][..], "32 bytes"),
        ("host=x", "-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----", &[], "RSA"),
        ("nonsense nonsense", SECRET, &[], "--database-url"),
        ("host=x", "@/no/such/file", &[], "/no/such/file"),
        ("host=x", SECRET, &["--database-ca", "/no/such/file"], "/no/such/file"),
        // A public key without the lines that PEM has around it would be a secret that everybody
        // knows.
        ("host=x", &bare, &[], "--jwt-key"),
        ("host=x", &bare, &["--jwt-algorithm", "HS256"], "--jwt-key"),
        ("host=x", &bare, &["--jwt-algorithm", "RS256"], "BEGIN PUBLIC KEY"),
        ("host=x", PUBLIC, &["--jwt-algorithm", "HS256"], "--jwt-key"),
        ("host=x", SECRET, &["--jwt-algorithm", "RS256"], "BEGIN PUBLIC KEY"),
        ("host=x", SECRET, &["--jwt-algorithm", "none"], "HS256"),
        ("host=x", &public_file, &[], "name of a file"),
        ("host=x sslmode=allow", SECRET, &[], "sslmode=allow"),
        ("host=x sslcert=/a", SECRET, &[], "sslcert"),
        ("host=x sslrootcert=/no/such/file", SECRET, &[], "/no/such/file"),
        ("host=x sslrootcert=/a", SECRET, &["--database-ca", "/b"], "sslrootcert"),
        ("host=x", SECRET, &["--questions-per-user", "16"], "--questions-per-user"),
        ("host=x", SECRET, &["--questions-per-user", "0"], "--questions-per-user"),
        ("host=x", SECRET, &["--database-connections", "0"], "--database-connections"),
        ("host=x", SECRET, &["--statement-timeout", "0"], "--statement-timeout"),
        ("host=x", SECRET, &["--demo-user", "nobody"], "ID=NAME"),
        ("host=x", SECRET, &["--demo-user", "a=b", "--listen", "0.0.0.0:0"], "loopback"),
        ("host=x", SECRET, &["--demo-user", "a=b", "--listen", "[::]:0"], "loopback"),
    ] {
        let said = refuses_to_start(database, key, arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn the_log_names_the_algorithm() {
    for (key, arguments, word) in [
        (SECRET, &[][..], "HS256"),
        (SECRET, &["--jwt-algorithm", "HS256"], "HS256"),
        (PUBLIC, &[], "RS256"),
        (PUBLIC, &["--jwt-algorithm", "rs256"], "RS256"),
    ] {
        let mut command = command("host=x", key, arguments);
        command.stderr(std::process::Stdio::piped());
        let said = Dashboard::run(command).first_of_log();
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn sample_users_sign_in() {
    let mut world = World::new("dash_demo", false);
    let role = world.backend_role();
    let url = url_of(&world.db.server, &world.db.name, &role);
    let client = Client::new();
    let plain = Dashboard::start(&url, SECRET, &[]);
    assert_eq!(plain.get("/demo/users", &[]).status, 404);
    assert_eq!(plain.send(&client, "POST", "/demo/sign-in?user=own", &[]).status, 405);

    let demo = Dashboard::start(&url, SECRET, &["--demo-user", "own=Owner", "--demo-user", "dev=Developer"]);
    let users = demo.get("/demo/users", &[]).json();
    assert_eq!(users["users"].as_array().map(Vec::len), Some(2), "{users}");
    assert!(users["current"].is_null(), "{users}");
    let answer = demo.send(&client, "POST", "/demo/sign-in?user=dev", &[]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie");
    assert_eq!(demo.get("/demo/users", &[("Cookie", cookie)]).json()["current"], "dev");
    assert_eq!(demo.get("/organizations", &[("Cookie", cookie)]).json()["organizations"][0]["role"], "developer");
    // Not whoever one likes, not by GET, and not from another site's name for this address.
    assert_eq!(demo.send(&client, "POST", "/demo/sign-in?user=riv", &[]).status, 404);
    assert_eq!(demo.get("/demo/sign-in?user=own", &[]).status, 405);
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
        assert_eq!(demo.send(&client, "POST", "/demo/sign-in?user=own", &[("Host", host)]).status, 404, "{host}");
        assert_eq!(demo.get("/demo/users", &[("Host", host)]).status, 404, "{host}");
    }
}

/// A free port of the loopback address.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

#[test]
fn tls_to_the_database() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let cluster = Cluster::fresh("dash_tls", &[]);
    let data = cluster.data();
    let write = |name: &str, text: &str| {
        let path = data.join(name);
        std::fs::write(&path, text).expect(name);
        // As root, the server is another user.
        let status = std::process::Command::new("sh")
            .args(["-c", "chown --reference=\"$1\" \"$2\" && chmod 600 \"$2\"", "sh"])
            .args([&data, &path])
            .status();
        assert!(status.expect("sh").success());
    };
    write("server.crt", &certificate.cert.pem());
    write("server.key", &certificate.signing_key.serialize_pem());
    write("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 trust\n");
    let authority = std::env::temp_dir().join(format!("dash_tls_{}.pem", std::process::id()));
    std::fs::write(&authority, certificate.cert.pem()).expect("a file");
    let port = port();
    cluster.stop();
    cluster.start(&["listen_addresses = '127.0.0.1'", &format!("port = {port}"), "ssl = on"]);
    let mut server = cluster.server.clone();
    server.port = port;
    let mut world = World::on(server, "dash_tls", false);
    let role = world.backend_role();
    let url = |host: &str, tls: &str| format!("host={host} hostaddr=127.0.0.1 port={port} user={role} dbname={} {tls}", world.db.name);
    let authority = authority.display().to_string();
    let status = |host: &str, tls: &str, arguments: &[&str]| {
        Dashboard::start(&url(host, tls), SECRET, arguments).ask("own", "/organizations").status
    };
    let by_option = ["--database-ca", &*authority];
    let by_url = |mode: &str| format!("sslmode={mode} sslrootcert={authority}");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(status("localhost", &format!("sslmode={mode}"), &by_option), 200, "{mode}");
        assert_eq!(status("localhost", &by_url(mode), &[]), 200, "{mode}");
        // Its authority is not among the system's.
        assert_eq!(status("localhost", &format!("sslmode={mode}"), &[]), 503, "{mode}");
        // The certificate is for localhost only, which verify-ca does not look at.
        let wanted = if mode == "verify-ca" { 200 } else { 503 };
        assert_eq!(status("db.example", &by_url(mode), &[]), wanted, "{mode}");
    }
    assert_eq!(status("localhost", "sslrootcert=system", &[]), 503);
    // The server lets nobody in without TLS.
    assert_eq!(status("localhost", "sslmode=disable", &by_option), 503);
    run(&mut world.client, "SELECT 1");
    let _ = std::fs::remove_file(authority);
}
