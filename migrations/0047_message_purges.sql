-- Messages that are to be deleted, many at once: written by the writer in the batch of the entry that says so, with which everything
-- before that entry is a row.

-- +goose Up

-- channel_id is 0 for all channels of a guild. author_id is 0 for everybody: then the channel is gone, and rows are all that there is.
-- since and until bound the ids, until not included.
create table message_purges (
    guild_id   bigint not null,
    channel_id bigint not null,
    author_id  bigint not null,
    since      bigint not null,
    until      bigint not null,
    actor_id   bigint not null,
    primary key (guild_id, channel_id, author_id, until)
);

-- +goose Down

drop table message_purges;
