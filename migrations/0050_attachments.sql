-- Whose the files of messages are. The tables belong to services/messaging; the bytes are in a store of files.

-- +goose Up

-- A row is there before its file, and goes after it: a file that has no row cannot come about. message_id is null until the message is
-- stored; what then never gets one is an orphan. released_at is set when no message needs it any more, for the collector.
create table attachments (
    id           bigint      primary key,
    channel_id   bigint      not null,
    guild_id     bigint      not null, -- 0 in direct channels
    user_id      bigint      not null,
    message_id   bigint,
    key          text        not null,
    name         text        not null,
    content_type text        not null,
    size         bigint      not null,
    created_at   timestamptz not null default now(),
    released_at  timestamptz
);
create index attachments_message on attachments (message_id) where message_id is not null;
create index attachments_pending on attachments (id) where message_id is null and released_at is null;
create index attachments_released on attachments (released_at) where released_at is not null;
create index attachments_channel on attachments (channel_id);
create index attachments_guild on attachments (guild_id);

-- How much everybody has stored, and under user 0 all together.
create table attachment_usage (
    user_id bigint primary key,
    bytes   bigint not null
);

-- Channels and guilds that are gone, and whether all that was in them has been released.
create table attachment_places_gone (
    id    bigint  primary key,
    swept boolean not null default false
);

-- +goose Down

drop table attachment_places_gone;
drop table attachment_usage;
drop table attachments;
