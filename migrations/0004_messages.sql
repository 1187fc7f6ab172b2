-- Messages, written in batches behind the log. The tables belong to services/messaging.

-- +goose Up

-- A message is found by its channel and its id, always: one index serves the history, the single message and the writer.
-- body is the message's JSON as it stood in the log, without id, timestamp, author and nonce; text, so that the bytes come back
-- as they were. content and type are also in it and stand beside it for queries. edit_id is the latest edit's place in the log, as an
-- id, and 0 before the first: an older edit never overwrites a newer one.
create table messages (
    channel_id bigint   not null,
    id         bigint   not null,
    guild_id   bigint   not null, -- 0 in direct channels
    author_id  bigint   not null,
    type       smallint not null,
    content    text     not null,
    body       text     not null,
    edit_id    bigint   not null default 0,
    primary key (channel_id, id)
);

-- Ids of deleted messages: a create that is delivered again, however late, does not bring one back.
create table message_tombstones (
    id bigint primary key
);

-- +goose Down

drop table message_tombstones;
drop table messages;
