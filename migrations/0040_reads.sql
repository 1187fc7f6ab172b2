-- What users have read, and what would tell them that there is more. The tables belong to engine/reads and are written by the
-- writer behind the log.

-- +goose Up

-- message_id is the last message that the user has read in the channel. ack_id is the place in the log, as an id, of the latest ack
-- that was applied: what comes again or late changes nothing.
create table read_states (
    user_id    bigint      not null,
    channel_id bigint      not null,
    message_id bigint      not null,
    ack_id     bigint      not null,
    read_at    timestamptz not null,
    primary key (user_id, channel_id)
);

create index read_states_channel on read_states (channel_id, message_id);

-- Whom a message mentions: one row for each user and each role in it, and one for the guild's id when it is for everyone. There is none per
-- member.
create table mentions (
    target     bigint not null,
    message_id bigint not null,
    channel_id bigint not null,
    author_id  bigint not null,
    primary key (target, message_id) include (channel_id, author_id)
);

create index mentions_message on mentions (message_id);

-- The latest message that there ever was in a channel, deleted or not.
create table channel_heads (
    channel_id bigint primary key,
    guild_id   bigint not null, -- 0 in direct channels
    message_id bigint not null
);

create index channel_heads_guild on channel_heads (guild_id);

-- What is there already: only the heads can be known of it. What was sent before counts as no mention.
insert into channel_heads (channel_id, guild_id, message_id)
select channel_id, max(guild_id), max(id) from messages group by channel_id;

-- How a user wants to hear of a guild, as the API shows it. place is where it was set in the log, as an id.
create table guild_settings (
    user_id  bigint not null,
    guild_id bigint not null,
    place    bigint not null,
    settings text   not null,
    primary key (user_id, guild_id)
);

-- +goose Down

drop table guild_settings;
drop table channel_heads;
drop table mentions;
drop table read_states;
