//! What is said to a database, in the words of each. The table and its indexes are kine's.
//!
//! Columns of ours on it (`k3rs_lease`, `k3rs_version`) may be null, and kine, which names its columns, passes over
//! them. A creation has `create_revision` 0 as kine writes it; a tombstone repeats what it deletes. `k3rs_server`
//! holds a row for each server: when it was last seen by the database's clock, up to where it has followed, and
//! its last append, by which one that comes again is known. Numbers come back as text.

/// One database's words. Parameters are `$1` and so on.
#[derive(Debug)]
pub(super) struct Statements {
    /// Whether everything is there: the columns of ours, the table of ours, kine's mark. And the time in milliseconds.
    pub(super) probe: &'static str,
    /// Makes what is missing.
    pub(super) setup: &'static [&'static str],
    /// Lets appends and purges go one after the other.
    pub(super) lock: &'static str,
    /// server, token, base, attempt: marks the append as this server's if it is new and stands on the newest revision.
    pub(super) claim: &'static str,
    /// name: finds a key's last row for what comes next, where that does not do it itself.
    pub(super) look: &'static [&'static str],
    /// server, attempt, id, name, created, `create_revision`, seconds, value, lease, version: does nothing unless claimed.
    pub(super) put: &'static str,
    /// server, attempt, id, name: a tombstone.
    pub(super) delete: &'static str,
    /// server, attempt: what else an append does, if anything.
    pub(super) end: Option<&'static str>,
    /// server: token and first revision of its last append.
    pub(super) verdict: &'static str,
    /// The newest revision.
    pub(super) newest: &'static str,
    /// after: rows, as many as one answer may have.
    pub(super) tail: &'static str,
    /// The newest revision, and up to where rows are purged.
    pub(super) bounds: &'static str,
    /// The newest revision, and the bytes of all rows.
    pub(super) size: &'static str,
    /// Every row that lives.
    pub(super) living: &'static str,
    /// server, revision.
    pub(super) report: &'static str,
    /// Forgets servers that were not seen for a day.
    pub(super) forget: &'static str,
    /// The lowest living server, how many live, and what all of them have followed.
    pub(super) role: &'static str,
    /// to: the mark of what is purged.
    pub(super) mark: &'static str,
    /// from, to: deletes superseded rows and tombstones, if the mark says so.
    pub(super) purge: &'static str,
    /// Listens for appends.
    pub(super) listen: Option<&'static str>,
}

pub(super) static POSTGRES: Statements = Statements {
    probe: "SELECT ((SELECT count(*) FROM information_schema.columns WHERE table_name = 'kine' \
        AND table_schema = ANY (current_schemas(false)) AND column_name IN ('k3rs_lease', 'k3rs_version')) = 2 \
        AND to_regclass('k3rs_server') IS NOT NULL)::int::text, \
        (extract(epoch FROM clock_timestamp()) * 1000)::int8::text",
    setup: &[
        "SELECT pg_advisory_xact_lock(1798533747)",
        "CREATE TABLE IF NOT EXISTS kine (id BIGSERIAL PRIMARY KEY, name text COLLATE \"C\", created INTEGER, \
            deleted INTEGER, create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea, old_value bytea)",
        "CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name)",
        "CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id)",
        "CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id,deleted)",
        "CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision)",
        "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)",
        "CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted)",
        "ALTER TABLE kine ADD COLUMN IF NOT EXISTS k3rs_lease BIGINT, ADD COLUMN IF NOT EXISTS k3rs_version BIGINT",
        "CREATE TABLE IF NOT EXISTS k3rs_server (id BIGINT PRIMARY KEY, seen BIGINT NOT NULL, \
            followed BIGINT NOT NULL, token BIGINT, first BIGINT, attempt BIGINT)",
        "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value) \
            SELECT coalesce(max(id), 0) + 1, 'compact_rev_key', 1, 0, 0, 0, 0, ''::bytea FROM kine \
            HAVING NOT EXISTS (SELECT 1 FROM kine WHERE name = 'compact_rev_key')",
        "SELECT setval(pg_get_serial_sequence('kine', 'id')::regclass, max(id)) FROM kine",
    ],
    lock: "SELECT pg_advisory_xact_lock(1798533747)",
    claim: "UPDATE k3rs_server SET token = $2::int8, first = $3::int8 + 1, attempt = $4::int8 WHERE id = $1::int8 \
        AND token IS DISTINCT FROM $2::int8 AND $3::int8 = (SELECT max(id) FROM kine)",
    look: &[],
    put: "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value, \
        k3rs_lease, k3rs_version) SELECT $3::int8, $4::text, $5::int8, 0, $6::int8, coalesce(p.id, 0), $7::int8, \
        $8::bytea, p.value, $9::int8, $10::int8 FROM k3rs_server AS s LEFT JOIN (SELECT id, value FROM kine \
        WHERE name = $4::text ORDER BY id DESC LIMIT 1) AS p ON true WHERE s.id = $1::int8 AND s.attempt = $2::int8",
    delete: "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value, \
        k3rs_lease, k3rs_version) SELECT $3::int8, $4::text, 0, 1, \
        CASE WHEN p.created = 1 THEN p.id ELSE coalesce(p.create_revision, 0) END, coalesce(p.id, 0), \
        coalesce(p.lease, 0), p.value, p.value, p.k3rs_lease, p.k3rs_version FROM k3rs_server AS s LEFT JOIN \
        (SELECT * FROM kine WHERE name = $4::text ORDER BY id DESC LIMIT 1) AS p ON true \
        WHERE s.id = $1::int8 AND s.attempt = $2::int8",
    end: Some(
        "SELECT setval(pg_get_serial_sequence('kine', 'id')::regclass, m.id)::text, \
        pg_notify('k3rs', m.id::text)::text FROM k3rs_server AS s, (SELECT max(id) AS id FROM kine) AS m \
        WHERE s.id = $1::int8 AND s.attempt = $2::int8",
    ),
    verdict: "SELECT token::text, first::text FROM k3rs_server WHERE id = $1::int8",
    newest: "SELECT max(id)::text FROM kine",
    tail: "SELECT id::text, name, created::text, deleted::text, create_revision::text, lease::text, \
        CASE WHEN deleted = 0 THEN value END, k3rs_lease::text, k3rs_version::text FROM (SELECT t.*, \
        sum(coalesce(octet_length(value), 0)) OVER (ORDER BY id) - coalesce(octet_length(value), 0) AS before \
        FROM (SELECT * FROM kine WHERE id > $1::int8 ORDER BY id LIMIT 500) AS t) AS s \
        WHERE before < 4194304 ORDER BY s.id",
    bounds: "SELECT max(id)::text, (SELECT max(prev_revision) FROM kine WHERE name = 'compact_rev_key')::text FROM kine",
    size: "SELECT max(id)::text, sum(octet_length(name) + coalesce(octet_length(value), 0))::text FROM kine",
    living: "SELECT id::text, name, created::text, '0', create_revision::text, lease::text, value, \
        k3rs_lease::text, k3rs_version::text FROM kine JOIN (SELECT max(id) AS id FROM kine GROUP BY name) AS n \
        USING (id) WHERE deleted = 0 AND name <> 'compact_rev_key'",
    report: "INSERT INTO k3rs_server (id, seen, followed) VALUES ($1::int8, \
        (extract(epoch FROM clock_timestamp()) * 1000)::int8, $2::int8) \
        ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, followed = excluded.followed",
    forget: "DELETE FROM k3rs_server WHERE id > 0 \
        AND seen < (extract(epoch FROM clock_timestamp()) * 1000)::int8 - 86400000",
    role: "SELECT min(id)::text, count(*)::text, min(followed)::text FROM k3rs_server WHERE id > 0 \
        AND seen > (extract(epoch FROM clock_timestamp()) * 1000)::int8 - 30000",
    mark: "UPDATE kine SET prev_revision = $1::int8 WHERE prev_revision < $1::int8 \
        AND id = (SELECT max(id) FROM kine WHERE name = 'compact_rev_key')",
    purge: "DELETE FROM kine USING (SELECT prev_revision AS id FROM kine WHERE name <> 'compact_rev_key' \
        AND prev_revision <> 0 AND id > $1::int8 AND id <= $2::int8 UNION SELECT id FROM kine WHERE deleted <> 0 \
        AND id > $1::int8 AND id <= $2::int8) AS d WHERE kine.id = d.id \
        AND EXISTS (SELECT 1 FROM kine WHERE name = 'compact_rev_key' AND prev_revision >= $2::int8)",
    listen: Some("LISTEN k3rs"),
};

/// Of MySQL 8 and MariaDB. Names are compared byte by byte, whatever the table's collation: kine's ignores case.
pub(super) static MYSQL: Statements = Statements {
    probe: "SELECT (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE table_schema = DATABASE() \
        AND table_name = 'kine' AND column_name IN ('k3rs_lease', 'k3rs_version')) = 2, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    // The columns come last: with them everything is there.
    setup: &[
        "CREATE TABLE IF NOT EXISTS kine (id BIGINT UNSIGNED AUTO_INCREMENT, \
            name VARCHAR(630) CHARACTER SET ascii COLLATE ascii_bin, created INTEGER, deleted INTEGER, \
            create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, \
            old_value MEDIUMBLOB, PRIMARY KEY (id), KEY kine_name_index (name), KEY kine_name_id_index (name, id), \
            KEY kine_id_deleted_index (id, deleted), KEY kine_prev_revision_index (prev_revision), \
            UNIQUE KEY kine_name_prev_revision_uindex (name, prev_revision)) ENGINE = InnoDB",
        "CREATE TABLE IF NOT EXISTS k3rs_server (id BIGINT PRIMARY KEY, seen BIGINT NOT NULL, \
            followed BIGINT NOT NULL, token BIGINT, first BIGINT, attempt BIGINT) ENGINE = InnoDB",
        "INSERT IGNORE INTO k3rs_server (id, seen, followed) VALUES (0, 0, 0)",
        "INSERT IGNORE INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) \
            SELECT 'compact_rev_key', 1, 0, 0, 0, 0, '' FROM DUAL \
            WHERE NOT EXISTS (SELECT 1 FROM kine AS k WHERE k.name = 'compact_rev_key')",
        "ALTER TABLE kine ADD COLUMN k3rs_lease BIGINT, ADD COLUMN k3rs_version BIGINT",
    ],
    lock: "SELECT id FROM k3rs_server WHERE id = 0 FOR UPDATE",
    claim: "UPDATE k3rs_server SET token = $2, first = $3 + 1, attempt = $4 WHERE id = $1 \
        AND (token IS NULL OR token <> $2) AND $3 = (SELECT MAX(id) FROM kine)",
    // A table that is read by the statement that adds to it would be copied, values and all, into a file.
    look: &[
        "SET @id = 0, @value = NULL, @created = NULL, @first = 0, @ttl = 0, @lease = NULL, @version = NULL",
        "SELECT id, value, created, create_revision, lease, k3rs_lease, k3rs_version INTO @id, @value, @created, @first, \
            @ttl, @lease, @version FROM kine FORCE INDEX (kine_name_id_index) WHERE name = $1 \
            AND CAST(name AS BINARY) = CAST($1 AS BINARY) ORDER BY id DESC LIMIT 1",
    ],
    put: "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value, \
        k3rs_lease, k3rs_version) SELECT $3, $4, $5, 0, $6, @id, $7, $8, @value, $9, $10 \
        FROM k3rs_server WHERE id = $1 AND attempt = $2",
    delete: "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value, \
        k3rs_lease, k3rs_version) SELECT $3, $4, 0, 1, IF(@created = 1, @id, @first), @id, @ttl, @value, @value, \
        @lease, @version FROM k3rs_server WHERE id = $1 AND attempt = $2",
    // The next number follows by itself.
    end: None,
    verdict: "SELECT token, first FROM k3rs_server WHERE id = $1",
    newest: "SELECT MAX(id) FROM kine",
    tail: "SELECT id, name, created, deleted, create_revision, lease, CASE WHEN deleted = 0 THEN value END, \
        k3rs_lease, k3rs_version FROM (SELECT t.*, SUM(COALESCE(LENGTH(value), 0)) OVER (ORDER BY id) \
        - COALESCE(LENGTH(value), 0) AS prior_bytes FROM (SELECT id, name, created, deleted, create_revision, lease, \
        value, k3rs_lease, k3rs_version FROM kine WHERE id > $1 ORDER BY id LIMIT 500) AS t) AS s \
        WHERE prior_bytes < 4194304 ORDER BY id",
    bounds: "SELECT MAX(id), (SELECT MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key') FROM kine",
    size: "SELECT MAX(id), SUM(LENGTH(name) + COALESCE(LENGTH(value), 0)) FROM kine",
    living: "SELECT kine.id, name, created, '0', create_revision, lease, value, k3rs_lease, k3rs_version FROM kine \
        JOIN (SELECT MAX(id) AS id FROM kine GROUP BY CAST(name AS BINARY)) AS n ON n.id = kine.id \
        WHERE deleted = 0 AND name <> 'compact_rev_key'",
    report: "INSERT INTO k3rs_server (id, seen, followed) VALUES ($1, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), $2) \
        ON DUPLICATE KEY UPDATE seen = VALUES(seen), followed = VALUES(followed)",
    forget: "DELETE FROM k3rs_server WHERE id > 0 AND seen < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - 86400000",
    role: "SELECT MIN(id), COUNT(*), MIN(followed) FROM k3rs_server WHERE id > 0 AND seen > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - 30000",
    mark: "UPDATE kine SET prev_revision = $1 WHERE name = 'compact_rev_key' AND prev_revision < $1 \
        ORDER BY id DESC LIMIT 1",
    purge: "DELETE kine FROM kine INNER JOIN (SELECT u.id FROM (SELECT prev_revision AS id FROM kine \
        WHERE name <> 'compact_rev_key' AND prev_revision <> 0 AND id > $1 AND id <= $2 UNION SELECT id FROM kine \
        WHERE deleted <> 0 AND id > $1 AND id <= $2) AS u JOIN (SELECT MAX(prev_revision) AS mark FROM kine \
        WHERE name = 'compact_rev_key') AS m ON m.mark >= $2) AS d ON kine.id = d.id",
    listen: None,
};
