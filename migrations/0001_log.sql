-- What the log needs beside it: ids that are wanted before any entry exists, the outbox of the cold path, and how far
-- each group of consumers has come.

-- +goose Up

-- nextval gives the first number of a block of 64; engine/postgres hands out the block.
create sequence ids as bigint increment by 64 minvalue 0 start with 0 no cycle;

-- One row per change of an aggregate, written in the change's own transaction. Applied rows stay until they are purged:
-- after a loss of the log they say who is gone.
create table outbox (
    kind       text        not null check (kind in ('guild', 'user')),
    aggregate  bigint      not null,
    version    bigint      not null,
    type       text        not null,
    actor      bigint      not null,
    guild      bigint      not null,
    channel    bigint      not null,
    "user"     bigint      not null,
    trace      text        not null,
    body       bytea       not null,
    created_at timestamptz not null default now(),
    applied_at timestamptz,
    primary key (kind, aggregate, version)
);

create index outbox_pending on outbox (kind, aggregate, version) where applied_at is null;

-- The last entry of the log whose effect is committed, per group and shard. It moves in the same transaction as the
-- effect, and only under the epoch of the present owner.
create table checkpoints (
    grp        text        not null,
    shard      int         not null,
    epoch      bigint      not null default 0,
    last_ms    bigint      not null default 0,
    last_seq   bigint      not null default 0,
    updated_at timestamptz not null default now(),
    primary key (grp, shard)
);

-- +goose Down

drop table checkpoints;
drop table outbox;
drop sequence ids;
