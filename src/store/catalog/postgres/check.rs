//! Looks for damage: rows that cannot be read, rows that contradict each other, and triggers or
//! indexes that are missing.

use tokio_postgres::types::Type;

use super::failure::Outcome;
use super::rows;
use super::runtime::Patience;
use super::session::Session;
use crate::store::catalog::columns::BadValue;

/// How many rows are read at once.
const PAGE: i64 = 10_000;

/// Counts of rows that contradict each other, and what they are.
const COUNTS: [(&str, &str); 8] = [
    (
        "SELECT count(*) FROM @.alias LEFT JOIN @.image ON fingerprint = target WHERE fingerprint IS NULL",
        "aliases point to no image",
    ),
    (
        "SELECT count(*) FROM @.alias JOIN @.image ON fingerprint = target WHERE alias.type IS DISTINCT FROM image.type",
        "aliases have another type than their image",
    ),
    (
        "SELECT count(*) FROM @.image LEFT JOIN (SELECT target, min(name) AS name FROM @.alias GROUP BY target) AS first \
         ON target = fingerprint WHERE first_alias IS DISTINCT FROM name",
        "images are sorted by an alias that is not their first",
    ),
    (
        "SELECT count(*) FROM (SELECT hash, fingerprint FROM @.image, @.property_hashes(properties) AS hash \
         EXCEPT SELECT hash, fingerprint FROM @.property) AS missing",
        "properties are not found when they are looked for",
    ),
    (
        "SELECT count(*) FROM (SELECT hash, fingerprint FROM @.property \
         EXCEPT SELECT hash, fingerprint FROM @.image, @.property_hashes(properties) AS hash) AS extra",
        "properties are found that no image has",
    ),
    (
        "SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('@.image'::regclass, '@.alias'::regclass) \
         AND NOT tgisinternal AND tgenabled = 'D'",
        "triggers of the catalog are switched off",
    ),
    (
        "SELECT greatest(0, 10 - count(*)) FROM pg_trigger \
         WHERE tgrelid IN ('@.image'::regclass, '@.alias'::regclass) AND NOT tgisinternal",
        "triggers of the catalog are missing",
    ),
    (
        "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid IN ('@.image'::regclass, \
         '@.alias'::regclass, '@.property'::regclass, '@.object'::regclass, '@.change'::regclass, '@.commit_log'::regclass)",
        "indexes of the catalog are invalid",
    ),
];

/// One sentence for each finding. Image rows that cannot be read are not included, since a page of
/// images reports those.
pub(super) fn inconsistencies(session: &Session, patience: &Patience) -> Outcome<Vec<String>> {
    session.set_dirty(true);
    // One state of the catalog for all queries; however long they take, writers do not wait for them.
    session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0", patience)?;
    let mut found = Vec::new();
    for (sql, what) in COUNTS {
        let values = session.batch(&session.sql(sql), patience)?;
        let number = values.into_iter().next().flatten().unwrap_or_default();
        if number != "0" {
            found.push(format!("{number} {what}"));
        }
    }
    rows_of(session, patience, ("alias", rows::ALIAS, "name, type", "('', '')"), &mut found)?;
    rows_of(session, patience, ("object", rows::OBJECT, "key", "('')"), &mut found)?;
    session.batch("COMMIT", patience)?;
    session.set_dirty(false);
    Ok(found)
}

/// Reads all aliases or all notes, page by page, and reports those that cannot be read.
fn rows_of(
    session: &Session,
    patience: &Patience,
    (table, columns, key, first): (&str, &str, &str, &str),
    found: &mut Vec<String>,
) -> Outcome<()> {
    let is_alias = table == "alias";
    let mut after: Option<(String, String)> = None;
    loop {
        let condition = match &after {
            None => format!("({key}) >= {first}"),
            Some(_) if is_alias => format!("({key}) > ($1, $2)"),
            Some(_) => format!("({key}) > ($1)"),
        };
        let sql =
            session.sql(&format!("SELECT {columns} FROM @.{table} WHERE {condition} ORDER BY {key} LIMIT {PAGE}"));
        let page = match &after {
            None => session.query(&sql, &[], patience)?,
            Some((one, two)) if is_alias => session.query(&sql, &[(one, Type::TEXT), (two, Type::TEXT)], patience)?,
            Some((one, _)) => session.query(&sql, &[(one, Type::TEXT)], patience)?,
        };
        for row in &page {
            let bad = if is_alias { rows::alias(row).err() } else { rows::object(row).err() };
            found.extend(bad.map(|BadValue(what)| what));
        }
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((rows::whole(last, 0)?, rows::whole(last, 1)?));
    }
}
