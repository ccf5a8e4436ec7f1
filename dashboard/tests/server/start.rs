//! How it starts, the demo's sign-in, TLS to the database.

use crate::harness::*;
use llm_analytics_tests::cluster::Cluster;
use llm_analytics_tests::db::run;
use llm_analytics_tests::world::World;

#[test]
fn wrong_settings() {
    for (database, key, arguments, word) in [
        ("host=x", "short", &[][..], "32 bytes"),
        ("host=x", "-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----", &[], "RSA"),
        ("nonsense nonsense", SECRET, &[], "--database-url"),
        ("host=x", "@/no/such/file", &[], "/no/such/file"),
        ("host=x", SECRET, &["--database-ca", "/no/such/file"], "/no/such/file"),
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
    let url = |mode: &str| format!("host=localhost hostaddr=127.0.0.1 port={port} user={role} dbname={} sslmode={mode}", world.db.name);
    let authority = authority.display().to_string();
    let status = |mode: &str, arguments: &[&str]| Dashboard::start(&url(mode), SECRET, arguments).ask("own", "/organizations").status;
    assert_eq!(status("require", &["--database-ca", &authority]), 200);
    // Its authority is not among the system's; and the server lets nobody in without TLS.
    assert_eq!(status("require", &[]), 503);
    assert_eq!(status("disable", &["--database-ca", &authority]), 503);
    run(&mut world.client, "SELECT 1");
    let _ = std::fs::remove_file(authority);
}
