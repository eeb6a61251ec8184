"""Results that are sent back: by which doors studies came, and what goes back for them.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "study_arrival",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("door", sa.String(length=16), nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("arrived_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_arrival_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_arrival")),
        sa.UniqueConstraint("study_id", "door", "sender", name=op.f("uq_study_arrival_study_id_door_sender")),
    )
    op.create_index(op.f("ix_study_arrival_arrived_at"), "study_arrival", ["arrived_at"])
    op.create_table(
        "study_return",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(length=32), nullable=False),
        sa.Column("source_hash", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("given_up_at", TIME, nullable=True),
        sa.Column("last_error", sa.String(length=64), nullable=True),
        sa.Column("made", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_study_return_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_return")),
        sa.UniqueConstraint(
            "study_id", "route", "source_hash", name=op.f("uq_study_return_study_id_route_source_hash")
        ),
    )
    due = ["route", "sent_at", "given_up_at", "next_attempt_at"]
    op.create_index(op.f("ix_study_return_route_sent_at_given_up_at_next_attempt_at"), "study_return", due)


def downgrade() -> None:
    for name in ("study_return", "study_arrival"):
        op.drop_table(name)
