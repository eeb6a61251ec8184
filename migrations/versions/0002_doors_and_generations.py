"""Doors and generations: removals of embeddings, versions of reports, settings, forgotten patients, backups.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A table that is copied to be altered would forget that its ids are never used twice.
COUNTED = {"sqlite_autoincrement": True}


def upgrade() -> None:
    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "forgotten_patient",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("patient", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_forgotten_patient")),
    )
    op.create_table(
        "backup",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup")),
    )
    op.create_table(
        "embedding_removal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("embedding_id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("model_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding_removal")),
        sqlite_autoincrement=True,
    )
    op.add_column("instance", sa.Column("patient_key", sa.String(length=64), nullable=True))
    op.add_column("instance", sa.Column("view_source", sa.String(length=16), nullable=True))
    op.add_column("instance", sa.Column("pixels_sha256", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_instance_patient_key"), "instance", ["patient_key"], unique=False)
    op.create_index(op.f("ix_instance_sop_instance_uid"), "instance", ["sop_instance_uid"], unique=False)
    op.execute(
        "UPDATE instance SET patient_key = (SELECT patient.key FROM study JOIN patient ON patient.id = study.patient_id"
        " WHERE study.id = instance.study_id) WHERE study_id IS NOT NULL"
    )
    op.add_column("report", sa.Column("numbering", sa.String(length=64), nullable=True))
    op.add_column("report", sa.Column("stage", sa.String(length=16), nullable=True))
    op.add_column("report", sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        generation.add_column(sa.Column("model_path", sa.Text(), nullable=True))
        generation.add_column(sa.Column("settings", sa.Text(), nullable=False, server_default="{}"))
        generation.add_column(sa.Column("removal_max_id", sa.Integer(), nullable=False, server_default="0"))
        for name in ("image_file", "image_sha256", "report_file", "report_sha256"):
            generation.drop_column(name)
    # The defaults were for the rows that were there.
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        generation.alter_column("settings", server_default=None)
        generation.alter_column("removal_max_id", server_default=None)
    _retire_generations("An older version built it. Run `alta index build`.")
    op.drop_index(op.f("ix_instance_study_id"), table_name="instance")
    op.create_index(op.f("ix_instance_study_id_status"), "instance", ["study_id", "status"])
    op.drop_index("ix_embedding_model_fingerprint_kind", table_name="embedding")
    op.create_index(op.f("ix_embedding_model_fingerprint_kind_id"), "embedding", ["model_fingerprint", "kind", "id"])
    op.drop_index(op.f("ix_study_study_date"), table_name="study")
    filters = ["study_date", "modality", "patient_sex", "patient_age"]
    op.create_index(op.f("ix_study_study_date_modality_patient_sex_patient_age"), "study", filters)


def downgrade() -> None:
    op.drop_index(op.f("ix_study_study_date_modality_patient_sex_patient_age"), table_name="study")
    op.create_index(op.f("ix_study_study_date"), "study", ["study_date"])
    op.drop_index(op.f("ix_instance_study_id_status"), table_name="instance")
    op.create_index(op.f("ix_instance_study_id"), "instance", ["study_id"])
    op.drop_index(op.f("ix_embedding_model_fingerprint_kind_id"), table_name="embedding")
    op.create_index("ix_embedding_model_fingerprint_kind", "embedding", ["model_fingerprint", "kind"])
    _retire_generations("A newer version built it. Run `alta index build`.")
    with op.batch_alter_table("generation", table_kwargs=COUNTED) as generation:
        for name in ("removal_max_id", "settings", "model_path"):
            generation.drop_column(name)
        for kind in ("image", "report"):
            generation.add_column(sa.Column(f"{kind}_file", sa.Text(), nullable=True))
            generation.add_column(sa.Column(f"{kind}_sha256", sa.String(length=64), nullable=True))
    # The older schema knows neither: a withdrawn report has no text, and a file that is a report is no image.
    op.execute("DELETE FROM report WHERE status = 'withdrawn'")
    op.execute("DELETE FROM instance WHERE status = 'report'")
    with op.batch_alter_table("report") as report:
        report.drop_column("issued_at")
        report.drop_column("stage")
        report.drop_column("numbering")
    op.drop_index(op.f("ix_instance_patient_key"), table_name="instance")
    op.drop_index(op.f("ix_instance_sop_instance_uid"), table_name="instance")
    with op.batch_alter_table("instance") as instance:
        instance.drop_column("pixels_sha256")
        instance.drop_column("view_source")
        instance.drop_column("patient_key")
    for name in ("embedding_removal", "backup", "forgotten_patient", "setting"):
        op.drop_table(name)


def _retire_generations(detail: str) -> None:
    """The two versions keep their indexes in different forms; embeddings stay, so one build brings it back."""
    update = sa.text("UPDATE generation SET state = 'removed', detail = :detail WHERE state <> 'failed'")
    op.execute(update.bindparams(detail=detail))
