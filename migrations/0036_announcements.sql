-- System messages that are still to be said. The table belongs to services/messaging.

-- +goose Up

-- What follows from an entry of the log is stored with the checkpoint that passes it, so that each is said once: then the row goes. The
-- channel is 0 for a guild's system channel, whichever that is when it is said. The user is whom it is about, besides its author.
create table announcements (
    entry_ms   bigint   not null,
    entry_seq  bigint   not null,
    type       smallint not null,
    guild_id   bigint   not null,
    channel_id bigint   not null,
    author_id  bigint   not null,
    user_id    bigint   not null,
    primary key (entry_ms, entry_seq)
);

-- +goose Down

drop table announcements;
