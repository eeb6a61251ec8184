"""The service: findings and language of reports, institutions, deleted studies, jobs, webhooks, keys, usage, audit,
score quantiles.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
# A table that is copied to be altered would forget that its ids are never used twice.
COUNTED = {"sqlite_autoincrement": True}


def upgrade() -> None:
    op.add_column("study", sa.Column("institution", sa.Text(), nullable=True))
    op.drop_index(op.f("ix_study_study_date_modality_patient_sex_patient_age"), table_name="study")
    filters = ["study_date", "modality", "patient_sex", "patient_age", "institution"]
    op.create_index("ix_study_filters", "study", filters)
    op.add_column("report", sa.Column("language", sa.String(length=16), nullable=True))
    op.add_column("report", sa.Column("labelled", sa.Integer(), nullable=True))
    op.create_table(
        "report_finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("report_id", sa.Integer(), nullable=False),
        sa.Column("finding", sa.String(length=64), nullable=False),
        sa.Column("assertion", sa.String(length=16), nullable=False),
        sa.Column("laterality", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["report_id"], ["report.id"], name=op.f("fk_report_finding_report_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_finding")),
        sa.UniqueConstraint("report_id", "finding", name=op.f("uq_report_finding_report_id_finding")),
    )
    op.create_index(
        op.f("ix_report_finding_finding_assertion_report_id"), "report_finding", ["finding", "assertion", "report_id"]
    )
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        generation.add_column(sa.Column("scores", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        generation.alter_column("scores", server_default=None)
    op.create_table(
        "deleted_study",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_deleted_study")),
    )
    _create_jobs()
    _create_access()


def _create_jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("exclusive", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.String(length=96), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("heartbeat_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    running = sa.text("state = 'running'")
    op.create_index("uq_job_running", "job", ["exclusive"], unique=True, sqlite_where=running, postgresql_where=running)
    op.create_index(op.f("ix_job_state_created_at"), "job", ["state", "created_at"])
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("delivered_at", TIME, nullable=True),
        sa.Column("given_up_at", TIME, nullable=True),
        sa.Column("last_error", sa.String(length=64), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_webhook_delivery_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    op.create_index(op.f("ix_webhook_delivery_job_id"), "webhook_delivery", ["job_id"])
    due = ["delivered_at", "given_up_at", "next_attempt_at"]
    op.create_index(op.f("ix_webhook_delivery_delivered_at_given_up_at_next_attempt_at"), "webhook_delivery", due)


def _create_access() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("requests_per_day", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("last_used_on", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_table(
        "usage",
        sa.Column("caller", sa.String(length=96), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "day", name=op.f("pk_usage")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("caller", sa.String(length=96), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("results", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("digest", name=op.f("uq_audit_entry_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_entry_caller"), "audit_entry", ["caller"])
    op.create_index(op.f("ix_audit_entry_study_key"), "audit_entry", ["study_key"])
    _refuse_changes()


def _refuse_changes() -> None:
    """No row of the audit is changed or taken out by a statement, whoever sends it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit_entry"
            " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        )
    # REPLACE takes out the rows in its way without asking the trigger of DELETE.
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit_entry"
        " WHEN EXISTS (SELECT 1 FROM audit_entry WHERE id = NEW.id OR digest = NEW.digest)"
        " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER audit_append_only ON audit_entry")
        op.execute("DROP FUNCTION audit_is_append_only()")
    for name in ("audit_entry", "usage", "api_key", "webhook_delivery", "job", "deleted_study", "report_finding"):
        op.drop_table(name)
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        generation.drop_column("scores")
    op.drop_index("ix_study_filters", table_name="study")
    for table, column in (("report", "labelled"), ("report", "language"), ("study", "institution")):
        op.drop_column(table, column)
    filters = ["study_date", "modality", "patient_sex", "patient_age"]
    op.create_index(op.f("ix_study_study_date_modality_patient_sex_patient_age"), "study", filters)
