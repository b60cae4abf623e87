//! Jobs enqueued by a client that knows nothing of this crate, in its own transaction: sqlx, by the function `anthill.enqueue`.

mod support;

use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{JobState, Limits};
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres;
use anthill_test_support::{eventually, skip_unless};
use sqlx::{Connection, PgConnection, Postgres, Row, Transaction};
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{ear, fresh, open, stats};

/// Inserts a user and enqueues the job that greets him; returns the job's id.
async fn sign_up(
    transaction: &mut Transaction<'_, Postgres>,
    user: i64,
) -> Result<String, sqlx::Error> {
    sqlx::query("INSERT INTO users VALUES ($1)")
        .bind(user)
        .execute(&mut **transaction)
        .await?;
    let row = sqlx::query(
        "SELECT anthill.enqueue('default', 'welcome', json_build_object('user', $1::bigint),
             delay => interval '1 hour', unique_key => 'user ' || $1)::text",
    )
    .bind(user)
    .fetch_one(&mut **transaction)
    .await?;
    row.try_get(0)
}

#[test]
fn a_job_enqueued_by_sqlx_is_part_of_its_transaction() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let (ear, _ears) = ear(&broker, Duration::from_secs(60));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut app = PgConnection::connect(&address).await.unwrap();
        sqlx::query("CREATE TABLE users (id bigint)")
            .execute(&mut app)
            .await
            .unwrap();

        let mut transaction = app.begin().await.unwrap();
        sign_up(&mut transaction, 1).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!(stats(&broker).enqueued, 0);

        let heard = ear.load(Ordering::SeqCst);
        let mut transaction = app.begin().await.unwrap();
        let id = sign_up(&mut transaction, 2).await.unwrap();
        assert_eq!(
            sign_up(&mut transaction, 2).await.unwrap(),
            id,
            "one at a time"
        );
        assert_eq!(stats(&broker).delayed, 0, "nobody sees it yet");
        transaction.commit().await.unwrap();
        eventually("the broker hears of it", || {
            ear.load(Ordering::SeqCst) > heard
        });
        check(&broker, &id);

        let limits = Limits {
            max_ready: Some(0),
            ..Limits::default()
        };
        broker.set_limits(limits).unwrap();
        let mut transaction = app.begin().await.unwrap();
        let refused = sqlx::query("SELECT anthill.enqueue('default', 'welcome', '{\"user\": 3}')")
            .execute(&mut *transaction)
            .await
            .unwrap_err();
        let refused = refused.as_database_error().unwrap();
        assert_eq!(refused.code().as_deref(), Some("AH001"));
        transaction.rollback().await.unwrap();
    });
}

fn check(broker: &PostgresBroker, id: &str) {
    let job = broker.get(id.parse().unwrap()).unwrap().unwrap();
    assert_eq!((&*job.kind, job.state), ("welcome", JobState::Delayed));
    assert_eq!(job.unique.as_deref(), Some("user 2"));
    assert!(job.due_in.unwrap() > Duration::from_secs(3500));
    assert_eq!(String::from_utf8(job.payload).unwrap(), "{\"user\" : 2}");
}
