"""The catalog: patients, studies, instances, reports, embeddings, generations.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "generation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("image_rows", sa.Integer(), nullable=False),
        sa.Column("image_max_id", sa.Integer(), nullable=False),
        sa.Column("image_file", sa.Text(), nullable=True),
        sa.Column("image_sha256", sa.String(length=64), nullable=True),
        sa.Column("report_rows", sa.Integer(), nullable=False),
        sa.Column("report_max_id", sa.Integer(), nullable=False),
        sa.Column("report_file", sa.Text(), nullable=True),
        sa.Column("report_sha256", sa.String(length=64), nullable=True),
        sa.Column("recall", sa.Double(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_generation_live",
        "generation",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("id_key", sa.String(length=64), nullable=True),
        sa.Column("sex", sa.String(length=1), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint("key", name=op.f("uq_patient_key")),
    )
    op.create_table(
        "secret",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secret")),
    )
    op.create_table(
        "study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("study_date", sa.Date(), nullable=True),
        sa.Column("study_time", sa.Time(), nullable=True),
        sa.Column("study_order", sa.Double(), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("patient_sex", sa.String(length=1), nullable=True),
        sa.Column("patient_age", sa.Double(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("image_source", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_study_patient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_study_study_instance_uid")),
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index(op.f("ix_study_patient_id"), "study", ["patient_id"], unique=False)
    op.create_index(op.f("ix_study_study_date"), "study", ["study_date"], unique=False)
    op.create_table(
        "embedding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("source_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_embedding_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
        sa.UniqueConstraint(
            "study_id", "kind", "model_fingerprint", name=op.f("uq_embedding_study_id_kind_model_fingerprint")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_embedding_model_fingerprint_kind", "embedding", ["model_fingerprint", "kind"], unique=False)
    op.create_table(
        "embedding_failure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("source_hash", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_embedding_failure_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding_failure")),
        sa.UniqueConstraint(
            "study_id", "kind", "model_fingerprint", name=op.f("uq_embedding_failure_study_id_kind_model_fingerprint")
        ),
    )
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path_key", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("modified_ns", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("view_position", sa.String(length=16), nullable=True),
        sa.Column("view", sa.String(length=16), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("columns", sa.Integer(), nullable=True),
        sa.Column("instance_number", sa.BigInteger(), nullable=True),
        sa.Column("acquired", sa.String(length=32), nullable=True),
        sa.Column("derived", sa.Boolean(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_instance_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("path_key", name=op.f("uq_instance_path_key")),
    )
    op.create_index(op.f("ix_instance_status"), "instance", ["status"], unique=False)
    op.create_index(op.f("ix_instance_study_id"), "instance", ["study_id"], unique=False)
    op.create_index(
        "uq_instance_accepted_sop_instance_uid",
        "instance",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("status = 'accepted'"),
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_table(
        "report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("patient_key", sa.String(length=64), nullable=True),
        sa.Column("indication", sa.Text(), nullable=True),
        sa.Column("comparison", sa.Text(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.Column("impression", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_report_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("identity", name=op.f("uq_report_identity")),
    )
    op.create_index(op.f("ix_report_accession_number"), "report", ["accession_number"], unique=False)
    op.create_index(op.f("ix_report_status"), "report", ["status"], unique=False)
    op.create_index(op.f("ix_report_study_id"), "report", ["study_id"], unique=False)
    op.create_index(op.f("ix_report_study_instance_uid"), "report", ["study_instance_uid"], unique=False)
    op.create_index(
        "uq_report_matched_study_id",
        "report",
        ["study_id"],
        unique=True,
        sqlite_where=sa.text("status = 'matched'"),
        postgresql_where=sa.text("status = 'matched'"),
    )


def downgrade() -> None:
    op.drop_index(
        "uq_report_matched_study_id",
        table_name="report",
        sqlite_where=sa.text("status = 'matched'"),
        postgresql_where=sa.text("status = 'matched'"),
    )
    op.drop_index(op.f("ix_report_study_instance_uid"), table_name="report")
    op.drop_index(op.f("ix_report_study_id"), table_name="report")
    op.drop_index(op.f("ix_report_status"), table_name="report")
    op.drop_index(op.f("ix_report_accession_number"), table_name="report")
    op.drop_table("report")
    op.drop_index(
        "uq_instance_accepted_sop_instance_uid",
        table_name="instance",
        sqlite_where=sa.text("status = 'accepted'"),
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.drop_index(op.f("ix_instance_study_id"), table_name="instance")
    op.drop_index(op.f("ix_instance_status"), table_name="instance")
    op.drop_table("instance")
    op.drop_table("embedding_failure")
    op.drop_index("ix_embedding_model_fingerprint_kind", table_name="embedding")
    op.drop_table("embedding")
    op.drop_index(op.f("ix_study_study_date"), table_name="study")
    op.drop_index(op.f("ix_study_patient_id"), table_name="study")
    op.drop_index(op.f("ix_study_accession_number"), table_name="study")
    op.drop_table("study")
    op.drop_table("secret")
    op.drop_table("patient")
    op.drop_index(
        "uq_generation_live",
        table_name="generation",
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.drop_table("generation")
