-- Direct channels, which belong to services/guilds like all others. Each is an aggregate of its own: whoever changes one locks its row,
-- adds 1 to its version and records one outbox row for that.

-- +goose Up

-- pair is the two users of a DM, the lower id first, and null for a group. recipients is also in body, which is the channel as the log
-- has it, and stands beside it to be found by.
create table directs (
    id         bigint   primary key,
    version    bigint   not null,
    pair       text     constraint directs_pair unique,
    recipients bigint[] not null,
    body       jsonb    not null
);

create index directs_recipients on directs using gin (recipients);

alter table outbox drop constraint outbox_kind_check;
alter table outbox add constraint outbox_kind_check check (kind in ('guild', 'user', 'direct'));

-- +goose Down

delete from outbox where kind = 'direct';
alter table outbox drop constraint outbox_kind_check;
alter table outbox add constraint outbox_kind_check check (kind in ('guild', 'user'));
drop table directs;
