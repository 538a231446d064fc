//! Servers that are away, refuse, follow another one, or have tables of another version.

use std::time::Duration;

use lxd_image::ErrorKind;
use lxd_image::store::{Catalog, ImageQuery, PostgresCatalog, PostgresOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::cluster::{Bouncer, Cluster, PASSWORD, free_port, shared};
use super::sample;

fn connect(url: &str) -> lxd_image::Result<PostgresCatalog> {
    PostgresCatalog::connect(url, &PostgresOptions::new().connect_timeout(Duration::from_secs(5)))
}

/// An error as people see it, which must not have a password.
fn shown(error: &lxd_image::Error) -> String {
    let text = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
    assert!(!text.contains("correct") && !text.contains("secret"), "{text}");
    text
}

#[test]
fn wrong_password_is_an_error_that_names_user_and_database() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let url = format!("postgresql://images:secret@127.0.0.1:{}/{database}?sslmode=disable", cluster.port);
    let error = connect(&url).unwrap_err();
    let text = shown(&error);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    for part in ["`images`", &database, &cluster.port.to_string(), "PGPASSWORD"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn missing_password_is_an_error_that_says_where_it_may_be() {
    let Some(cluster) = shared() else { return };
    let url = format!("postgresql://images@127.0.0.1:{}/{}?sslmode=disable", cluster.port, cluster.database());
    let error = connect(&format!("{url}&passfile=/dev/null")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
    assert!(shown(&error).contains(".pgpass"));
}

#[test]
fn catalog_does_not_show_its_password() {
    let Some(cluster) = shared() else { return };
    let url = cluster.tcp_url(&cluster.database(), cluster.port);
    let catalog = PostgresCatalog::init(&url, "store-1", &PostgresOptions::new()).unwrap();
    assert!(!format!("{catalog:?}").contains(PASSWORD));
}

#[test]
fn missing_database_is_not_found() {
    let Some(cluster) = shared() else { return };
    let error = connect(&cluster.socket_url("missing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", shown(&error));
    assert!(shown(&error).contains("`missing`"));
}

#[test]
fn database_without_a_store_is_not_found() {
    let Some(cluster) = shared() else { return };
    let error = connect(&cluster.socket_url(&cluster.database())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", shown(&error));
    assert!(shown(&error).contains("`lxd_image`"));
}

#[test]
fn database_of_another_store_is_refused() {
    let Some(cluster) = shared() else { return };
    let (_, database) = cluster.catalog_with(&PostgresOptions::new());
    let url = cluster.socket_url(&database);
    for error in [
        PostgresCatalog::init(&url, "store-2", &PostgresOptions::new()).unwrap_err(),
        PostgresCatalog::connect(&url, &PostgresOptions::new().store_id("store-2")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert_eq!(error.expected_and_found(), Some(("store-2", "store-1")));
    }
}

#[test]
fn initialising_again_keeps_the_rows() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let again = PostgresCatalog::init(&cluster.socket_url(&database), "store-1", &PostgresOptions::new()).unwrap();
    assert_eq!(again.totals(&ImageQuery::new()).unwrap().images, 1);
}

#[test]
fn many_may_initialise_at_once() {
    let Some(cluster) = shared() else { return };
    let url = cluster.socket_url(&cluster.database());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| PostgresCatalog::init(&url, "store-1", &PostgresOptions::new()).unwrap());
        }
    });
}

#[test]
fn server_that_is_not_there_is_transient() {
    let url = format!("postgresql://images@127.0.0.1:{}/d?sslmode=disable", free_port());
    let error = connect(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
}

#[test]
fn server_that_never_answers_is_transient() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://images@{}/d?sslmode=disable", listener.local_addr().unwrap());
    let options = PostgresOptions::new().connect_timeout(Duration::from_millis(300));
    let error = PostgresCatalog::connect(&url, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
}

#[test]
fn catalog_goes_on_when_the_server_comes_back() {
    let Some(cluster) = Cluster::start("") else { return };
    let options = PostgresOptions::new().busy_timeout(Duration::from_millis(300));
    let (catalog, _) = cluster.catalog_with(&options);
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let before = catalog.version().unwrap();
    cluster.stop();
    let failed = [
        catalog.image(&sample("one").fingerprint).unwrap_err(),
        catalog.write(&mut |rows| rows.insert(&sample("two"))).unwrap_err(),
        catalog.version().unwrap_err(),
    ];
    for error in failed {
        assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
    }
    assert!(catalog.now() > 0);
    cluster.resume();
    assert_ne!(catalog.version().unwrap(), before, "rows may be gone that were seen");
    catalog.write(&mut |rows| rows.insert(&sample("two"))).unwrap();
    assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().images, 2);
}

#[test]
fn call_waits_for_a_server_that_restarts() {
    let Some(cluster) = Cluster::start("") else { return };
    let (catalog, _) = cluster.catalog_with(&PostgresOptions::new().busy_timeout(Duration::from_secs(20)));
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    cluster.stop();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| catalog.write(&mut |rows| rows.insert(&sample("two"))));
        std::thread::sleep(Duration::from_millis(500));
        cluster.resume();
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn connections_that_the_server_ends_are_replaced() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    for number in 0..5 {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'images'"
        );
        cluster.sql("postgres", &sql);
        catalog.write(&mut |rows| rows.insert(&sample(format!("{number}")))).unwrap();
        cluster.sql("postgres", &sql);
        assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().images, number + 1);
    }
}

#[test]
fn pgbouncer_before_a_server_that_is_away_is_transient() {
    let Some(cluster) = Cluster::start("") else { return };
    let Some(bouncer) = Bouncer::start(&cluster) else { return };
    let url = cluster.tcp_url(&cluster.database(), bouncer.port);
    let options =
        PostgresOptions::new().busy_timeout(Duration::from_millis(300)).statement_timeout(Duration::from_secs(2));
    let catalog = PostgresCatalog::init(&url, "store-1", &options).unwrap();
    cluster.stop();
    let error = catalog.totals(&ImageQuery::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
    cluster.resume();
    // pgbouncer waits before it connects again.
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = catalog.write(&mut |rows| rows.insert(&sample("one"))) {
        assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
        assert!(std::time::Instant::now() < until, "{error}");
    }
}

#[test]
fn standby_is_read_and_takes_no_changes_until_it_is_promoted() {
    let Some(primary) = Cluster::start("") else { return };
    let (catalog, database) = primary.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let standby = primary.standby();
    let options = PostgresOptions::new().busy_timeout(Duration::from_millis(300));
    let follower = PostgresCatalog::connect(&standby.socket_url(&database), &options).unwrap();
    assert_eq!(follower.totals(&ImageQuery::new()).unwrap().images, 1);
    follower.version().unwrap();
    let error = follower.write(&mut |rows| rows.insert(&sample("two"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", shown(&error));
    assert!(shown(&error).contains("standby"));

    // With both hosts in the address, the one that takes changes is found, before and after.
    let url = format!(
        "postgresql://images@/{database}?host={},{}&port={},{}",
        standby.path("").display().to_string().trim_end_matches('/'),
        primary.path("").display().to_string().trim_end_matches('/'),
        standby.port,
        primary.port
    );
    let both = PostgresCatalog::connect(&url, &PostgresOptions::new().busy_timeout(Duration::from_secs(20))).unwrap();
    both.write(&mut |rows| rows.insert(&sample("two"))).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while follower.totals(&ImageQuery::new()).unwrap().images < 2 {
        assert!(std::time::Instant::now() < until);
    }
    primary.stop();
    standby.promote();
    both.write(&mut |rows| rows.insert(&sample("three"))).unwrap();
    assert_eq!(follower.totals(&ImageQuery::new()).unwrap().images, 3);
    follower.write(&mut |rows| rows.insert(&sample("four"))).unwrap();
}

#[test]
fn user_without_a_connection_left_gets_busy() {
    let Some(cluster) = shared() else { return };
    let (_catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    cluster.sql(
        &database,
        "DROP ROLE IF EXISTS few; CREATE ROLE few LOGIN CONNECTION LIMIT 1; GRANT USAGE ON SCHEMA lxd_image TO few; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lxd_image TO few",
    );
    let url = cluster.socket_url(&database).replace("images@", "few@");
    let one = connect(&url).unwrap();
    assert_eq!(connect(&url).unwrap_err().kind(), ErrorKind::Busy);
    // The rights that were granted are enough for everything but upgrades.
    one.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    one.check(&lxd_image::Monitor::none()).unwrap();
}

#[test]
fn user_without_rights_gets_an_error_that_says_so() {
    let Some(cluster) = shared() else { return };
    let (_catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    cluster.sql(&database, "DROP ROLE IF EXISTS nobody_much; CREATE ROLE nobody_much LOGIN");
    let error = connect(&cluster.socket_url(&database).replace("images@", "nobody_much@")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{}", shown(&error));
    assert!(shown(&error).contains("`nobody_much`"));
}

/// A database with the tables of version 1, and an image with an alias.
fn version_1(cluster: &Cluster) -> String {
    let database = cluster.database();
    let tables = include_str!("../../src/store/catalog/postgres/migrations/0001-images.sql");
    let fingerprint = sample("old").fingerprint;
    cluster.sql(
        &database,
        &format!(
            "SET ROLE images; CREATE SCHEMA lxd_image; SET search_path = lxd_image; \
             CREATE TABLE migration (version integer PRIMARY KEY, applied_at timestamptz NOT NULL); \
             {tables}; INSERT INTO migration VALUES (1, now()); INSERT INTO store VALUES ('store-1'); \
             INSERT INTO image VALUES ('{fingerprint}', 'container', 'x86_64', 1, NULL, 2, NULL, 3, NULL, true, false, false, \
             NULL, NULL, NULL, '{{\"os\": \"Debian\"}}', '{{}}', 4, '{fingerprint}.0123456789abcdef', NULL, NULL, NULL); \
             INSERT INTO alias VALUES ('old', 'container', '{fingerprint}', '')"
        ),
    );
    database
}

#[test]
fn tables_of_version_1_are_upgraded_with_their_rows() {
    let Some(cluster) = shared() else { return };
    let url = cluster.socket_url(&version_1(cluster));
    let catalog = connect(&url).unwrap();
    let image = catalog.image(&sample("old").fingerprint).unwrap().unwrap();
    assert_eq!((image.revision, image.aliases.len(), image.properties.get("os")), (4, 1, Some("Debian")));
    let before = catalog.version().unwrap();
    catalog.write(&mut |rows| rows.insert(&sample("new"))).unwrap();
    assert_ne!(catalog.version().unwrap(), before);
    assert_eq!(catalog.check(&lxd_image::Monitor::none()).unwrap(), [""; 0]);
}

#[test]
fn tables_of_version_1_are_refused_if_they_may_not_be_upgraded() {
    let Some(cluster) = shared() else { return };
    let url = cluster.socket_url(&version_1(cluster));
    let error = PostgresCatalog::connect(&url, &PostgresOptions::new().migrate(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", shown(&error));
}

#[test]
fn newer_tables_are_refused_with_both_numbers() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    cluster.sql(&database, "INSERT INTO lxd_image.migration VALUES (99, now())");
    for error in [
        connect(&cluster.socket_url(&database)).unwrap_err(),
        PostgresCatalog::init(&cluster.socket_url(&database), "store-1", &PostgresOptions::new()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", shown(&error));
        assert!(shown(&error).contains("version 99") && shown(&error).contains("version 4"));
    }
    drop(catalog);
}

#[test]
fn server_without_fsync_is_refused() {
    let Some(cluster) = Cluster::start("fsync = off") else { return };
    let url = cluster.socket_url(&cluster.database());
    let error = PostgresCatalog::init(&url, "store-1", &PostgresOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", shown(&error));
}

#[test]
fn commits_are_durable_even_if_the_user_defaults_to_less() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    cluster.sql(&database, &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    drop(catalog);
    let catalog = connect(&cluster.socket_url(&database)).unwrap();
    catalog
        .write(&mut |rows| {
            rows.insert(&sample("one"))?;
            let sql =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
            assert_eq!(cluster.sql(&database, sql), "1");
            Ok(())
        })
        .unwrap();
}

#[test]
fn time_is_that_of_the_database() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    for _ in 0..3 {
        let before: i64 =
            cluster.sql("postgres", "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint").parse().unwrap();
        let now = catalog.now();
        let after: i64 =
            cluster.sql("postgres", "SELECT ceil(extract(epoch FROM clock_timestamp()))::bigint").parse().unwrap();
        assert!((before - 1..=after).contains(&now), "{before} {now} {after}");
        std::thread::sleep(Duration::from_millis(600));
    }
}

/// A server with a certificate for `localhost`, and the file of its authority.
fn encrypted() -> Option<(Cluster, String)> {
    let cluster = Cluster::start("")?;
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.clone().self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    cluster.write("authority.pem", &authority.pem());
    cluster.write("data/server.crt", &certificate.pem());
    cluster.write("data/server.key", &key.serialize_pem());
    cluster.write(
        "data/pg_hba.conf",
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all all reject\n",
    );
    cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.stop();
    cluster.resume();
    let database = cluster.catalog_with(&PostgresOptions::new()).1;
    Some((cluster, database))
}

#[test]
fn encrypted_server_is_verified_by_its_authority_and_name() {
    let Some((cluster, database)) = encrypted() else { return };
    let authority = cluster.path("authority.pem");
    let password = PASSWORD.replace(' ', "%20");
    let url =
        |host: &str, rest: &str| format!("postgresql://images:{password}@{host}:{}/{database}?{rest}", cluster.port);
    let rooted = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    let catalog = connect(&url("localhost", &rooted)).unwrap();
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let sql = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'images'";
    assert_eq!(cluster.sql(&database, sql), "t");

    connect(&url("localhost", "sslmode=prefer")).unwrap();
    for (host, rest) in [("127.0.0.1", rooted.as_str()), ("localhost", "sslmode=verify-full")] {
        let error = connect(&url(host, rest)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Remote, "{host} {rest}: {}", shown(&error));
        assert!(shown(&error).contains("PGSSLROOTCERT"));
    }
    let error = connect(&url("localhost", "sslmode=disable")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
}

#[test]
fn server_that_does_not_encrypt_is_refused_where_that_is_required() {
    let Some(cluster) = shared() else { return };
    let url = format!(
        "postgresql://images:{}@localhost:{}/{}?sslmode=verify-full",
        PASSWORD.replace(' ', "%20"),
        cluster.port,
        cluster.database()
    );
    let error = connect(&url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", shown(&error));
}
